"""The rows of the metadata editors as a browser posts them."""


def form_rows(*rows: dict[str, str]) -> dict[str, object]:
    management: dict[str, object] = {"row-TOTAL_FORMS": str(len(rows)), "row-INITIAL_FORMS": "0"}
    return management | {f"row-{index}-{name}": value for index, row in enumerate(rows) for name, value in row.items()}
