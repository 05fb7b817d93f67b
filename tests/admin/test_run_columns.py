"""The columns, the order and the time zone of the list of runs, which are parameters of its URL."""

import datetime as dt
import html
import re
from urllib.parse import quote

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from runsadmin.models import DraftSelection, Run
from tests.admin.conftest import run_list_action
from tests.admin.test_run_list import LIST, shown_ids
from tests.conftest import MakeRun

pytestmark = pytest.mark.django_db


def headers(client: Client, query: str) -> list[str]:
    """The titles of the columns, except the column of checkboxes."""
    table = re.search(r"<thead>(.*?)</thead>", client.get(LIST + query).text, re.DOTALL)
    assert table
    cells = [re.sub(r"<[^>]+>|arrow_\w+|cancel", "", cell).strip() for cell in re.split(r"<th\b", table[1])[2:]]
    return [html.unescape(cell.partition(">")[2] or cell).strip() for cell in cells]


def cells(client: Client, query: str) -> list[str]:
    """The texts of the first row."""
    row = re.search(r'<tr class="data-row.*?</tr>', client.get(LIST + query).text, re.DOTALL)
    assert row
    found = [cell.partition(">")[2] for cell in row[0].split("<td")[2:]]
    return [html.unescape(re.sub(r"<[^>]+>", " ", cell)).strip() for cell in found]


def error_of(client: Client, query: str) -> str:
    return html.unescape(
        " ".join(re.findall(r'<p class="ra-error" role="alert">(.*?)</p>', client.get(LIST + query).text))
    )


def test_columns_are_shown_in_their_order(mirror_run: MakeRun, as_carol: Client) -> None:
    run = mirror_run(
        status="failed", last_error={"code": "server_error", "message": "m"}, metadata={"team": "ads", "cost, net": "7"}
    )
    columns = quote('error,metadata.team,id,metadata."cost, net",metadata.none')
    assert headers(as_carol, f"?columns={columns}") == ["Error", "team", "Run", "cost, net", "none"]
    error, team, its_id, cost, none = cells(as_carol, f"?columns={columns}")
    assert (error, team, cost) == ("server_error", "ads", "7")
    assert (its_id.split(), none) == ([run.upstream_id, run.thread.upstream_id], "–")
    labels = re.findall('data-label="(.*?)"', as_carol.get(f"{LIST}?columns={columns}").text)
    assert labels == ["Error", "team", "Run", "cost, net", "none"]  # Shown by phones.


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?columns=stats", "There is no column 'stats'. Did you mean status?"),
        ("?tz=Europe/Berln", "There is no time zone 'Europe/Berln'. Did you mean Europe/Berlin?"),
        ("?o=model", "There is no order 'model'."),
        ("?view=nothing", "There is no view 'nothing', or it is private."),
    ],
)
def test_invalid_parameter_is_explained(query: str, message: str, mirror_run: MakeRun, as_carol: Client) -> None:
    mirror_run(id="run_a")
    assert message in error_of(as_carol, query)
    assert shown_ids(as_carol, query) == ([] if "tz=" in query else ["run_a"])


def test_columns_need_no_query_per_row(mirror_run: MakeRun, as_carol: Client) -> None:
    query = "?columns=id,thread,error,started,metadata,metadata.team,metadata.n"

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            as_carol.get(LIST + query)
        return len(captured)

    mirror_run(metadata={"team": "ads"})
    of_one = queries()
    for number in range(10):
        mirror_run(thread_id=f"thread_{number}", metadata={"n": str(number)})
    assert queries() == of_one
    query = "?columns=id,status"
    assert queries() == of_one - 1  # Pairs are only read if they are shown.


def test_hostile_keys_are_escaped(mirror_run: MakeRun, as_carol: Client) -> None:
    key = '"><script>alert(1)</script>'
    mirror_run(metadata={key: "<img src=x>"})
    text = as_carol.get(LIST, {"columns": 'id,metadata."\\"><script>alert(1)</script>"'}).text
    assert "<script>alert(1)" not in text
    assert "<img src=x>" not in text
    assert "&lt;img src=x&gt;" in text


def test_order_is_named_in_the_url(mirror_run: MakeRun, as_carol: Client) -> None:
    mirror_run()
    text = as_carol.get(LIST + "?columns=duration,id&o=-duration").text
    assert "longest first" in text
    assert "o=duration" in text
    assert 'o=-0"' not in text
    assert shown_ids(as_carol, "?o=-duration&columns=id")


def test_time_zone_applies_to_search_and_times(mirror_run: MakeRun, as_carol: Client) -> None:
    mirror_run(id="run_a", created_at=1772326800)  # 2026-03-01T01:00 in UTC, and the day before in New York.
    in_new_york = "?tz=America/New_York&q=created:2026-02-28"
    assert shown_ids(as_carol, in_new_york) == ["run_a"]
    assert 'title="2026-02-28 20:00:00 EST"' in as_carol.get(LIST + in_new_york).text
    assert shown_ids(as_carol, "?tz=UTC&q=created:2026-02-28") == []
    assert "tz=America%2FNew_York" in html.unescape(as_carol.get(LIST + in_new_york).text)


def test_time_zone_is_remembered(mirror_run: MakeRun, as_carol: Client, as_alice: Client) -> None:
    mirror_run(id="run_a", created_at=1772326800)
    as_carol.get(LIST + "?tz=America/New_York")
    as_carol.get(LIST + "?tz=Mars")  # An error is not remembered.
    assert "20:00:00 EST" in as_carol.get(LIST + "?q=status:completed").text
    assert '<input type="hidden" name="tz" value="America/New_York">' in as_carol.get(LIST).text
    assert "01:00:00 UTC" in as_alice.get(LIST).text
    # A copied address finds the same runs for everyone.
    assert shown_ids(as_carol, "?q=created:2026-02-28") == []
    assert shown_ids(as_carol, "?q=created:2026-02-28T20:00-05:00") == ["run_a"]


def test_selection_keeps_the_time_zone(mirror_run: MakeRun, as_alice: Client) -> None:
    mirror_run(id="run_a", created_at=1772326800)
    url = LIST + "?tz=America/New_York&q=created:2026-02-28"
    response = run_list_action(as_alice, url, "edit_metadata", [], select_across="1")
    assert "selection=" in response["Location"]
    draft = DraftSelection.objects.get()
    assert (draft.query, draft.tz) == ("created:2026-02-28", "America/New_York")


def test_extreme_times_are_shown(mirror_run: MakeRun, as_carol: Client) -> None:
    mirror_run(id="run_a")
    Run.objects.update(expires_at=dt.datetime(9999, 12, 31, 23, tzinfo=dt.UTC))
    assert "9999-12-31" in as_carol.get(LIST + "?columns=id,expires&tz=Asia/Tokyo").text
