import pytest

from tests.sandbox.conftest import Api, error_of
from tests.sandbox_client import Sandbox, make_run

THREAD = "thread_pages"


@pytest.fixture
def ids(sandbox: Sandbox) -> list[str]:
    """The ids of seven runs of one thread, oldest first. The third and the fourth have the same creation time."""
    seconds = [100, 200, 300, 300, 400, 500, 600]
    runs = [make_run(id=f"run_{number}", thread_id=THREAD, created_at=at) for number, at in enumerate(seconds)]
    sandbox.put_runs([*runs[3:], make_run(id="run_elsewhere", thread_id="thread_other"), *runs[:3]])
    # Of two runs with the same time, the one that was stored first is older.
    in_order = ["run_0", "run_1", "run_3", "run_2", "run_4", "run_5", "run_6"]
    assert {run["id"] for run in runs} == set(in_order)
    return in_order


def list_page(api: Api, **params: object) -> tuple[list[str], bool]:
    """The ids on a page of runs, and whether there are more."""
    page = api.get(f"/threads/{THREAD}/runs", **params).json()
    ids = [run["id"] for run in page["data"]]
    assert page["object"] == "list"
    assert (page["first_id"], page["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
    return ids, page["has_more"]


def test_newest_come_first_by_default(api: Api, ids: list[str]) -> None:
    assert list_page(api) == (ids[::-1], False)
    assert list_page(api, order="desc") == (ids[::-1], False)
    assert list_page(api, order="asc") == (ids, False)


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_paging_by_after_returns_each_run_once(api: Api, ids: list[str], order: str, limit: int) -> None:
    found, has_more = list_page(api, order=order, limit=limit)
    while has_more:
        more, has_more = list_page(api, order=order, limit=limit, after=found[-1])
        assert 0 < len(more) <= limit
        found += more
    assert found == (ids if order == "asc" else ids[::-1])


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_before_returns_the_preceding_page(api: Api, ids: list[str], order: str) -> None:
    expected = ids if order == "asc" else ids[::-1]
    assert list_page(api, order=order, before=expected[5], limit=2) == (expected[3:5], True)
    assert list_page(api, order=order, before=expected[2], limit=2) == (expected[:2], False)
    assert list_page(api, order=order, before=expected[0]) == ([], False)


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_after_and_before_can_be_combined(api: Api, ids: list[str], order: str) -> None:
    expected = ids if order == "asc" else ids[::-1]
    assert list_page(api, order=order, after=expected[0], before=expected[4], limit=2) == (expected[1:3], True)
    assert list_page(api, order=order, after=expected[4], before=expected[0]) == ([], False)


def test_page_past_the_last_run_is_empty(api: Api, ids: list[str]) -> None:
    assert list_page(api, after=ids[0]) == ([], False)


def test_page_has_twenty_runs_by_default(sandbox: Sandbox, api: Api) -> None:
    sandbox.put_runs([make_run(thread_id=THREAD) for _ in range(120)])
    assert len(list_page(api)[0]) == 20
    assert len(list_page(api, limit=100)[0]) == 100


@pytest.mark.parametrize(
    ("params", "param", "code"),
    [
        ({"limit": 0}, "limit", "integer_below_min_value"),
        ({"limit": -1}, "limit", "integer_below_min_value"),
        ({"limit": 101}, "limit", "integer_above_max_value"),
        ({"limit": "many"}, "limit", "invalid_type"),
        ({"limit": ""}, "limit", "invalid_type"),
        ({"order": "up"}, "order", "invalid_value"),
        ({"after": "run_unknown"}, "after", None),
        ({"before": "run_elsewhere"}, "before", None),
    ],
)
def test_invalid_page_is_refused(api: Api, ids: list[str], params: dict[str, str], param: str, code: str) -> None:
    response = api.get(f"/threads/{THREAD}/runs", **params)
    assert response.status_code == 400
    error = error_of(response)
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)


def test_unknown_parameters_are_ignored(api: Api, ids: list[str]) -> None:
    assert list_page(api, **{"api-version": "2024-05-01-preview"}) == (ids[::-1], False)
