"""The rows of the metadata editors as a browser posts them."""


def form_rows(*rows: dict[str, str]) -> dict[str, object]:
    numbers: dict[str, object] = {"row-TOTAL_FORMS": str(len(rows)), "row-INITIAL_FORMS": "0"}
    return numbers | {f"row-{place}-{name}": value for place, row in enumerate(rows) for name, value in row.items()}
