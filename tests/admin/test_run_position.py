"""From a run to its neighbors in the list, and back to the same place."""

import datetime as dt
import html
import re
from urllib.parse import urlsplit

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from runsadmin.admin import run_position
from runsadmin.models import Edit, Run
from tests.admin.conftest import base_field, metadata_form
from tests.admin.test_run_list import LIST, ids, make_runs, page_link, shown_ids  # noqa: F401 - a fixture
from tests.conftest import MakeRun

pytestmark = pytest.mark.django_db


def first_match(text: str, pattern: str) -> str:
    """The first group of the first match as text. Empty if there is none."""
    found = re.search(pattern, text, re.DOTALL)
    return html.unescape(found[1]) if found else ""


def run_url_in_list(client: Client, query: str, run_id: str) -> str:
    """The URL that the list links to."""
    url = first_match(client.get(LIST + query).text, rf'class="ra-id" href="([^"]+)">{run_id}<')
    assert url, f"{run_id} is not in the list."
    return f"{LIST}{url}"


def neighbor_url(client: Client, url: str, relation: str) -> str:
    return first_match(client.get(url).text, rf'rel="{relation}" href="([^"]+)"')


def back_url(client: Client, url: str) -> str:
    return first_match(client.get(url).text, r'class="ra-place".*?href="([^"]+)"')


def shown_run_id(client: Client, url: str) -> str:
    return first_match(client.get(url).text, r'<h2><span class="ra-id">([^<]+)<')


@pytest.mark.parametrize("order", ["", "&o=created_at", "&o=-total_tokens", "&o=duration"])
def test_neighbors_follow_the_list(order: str, make_runs: MakeRun, as_carol: Client) -> None:  # noqa: F811
    make_runs(12, status="failed")
    for number, run in enumerate(Run.objects.order_by("pk")):
        run.total_tokens = None if number % 3 == 0 else number % 4
        run.duration = None if number % 2 else dt.timedelta(seconds=number % 5)
        run.save()
    Run.objects.filter(upstream_id="run_005").update(status="completed")
    query = f"?q=status:failed{order}"
    listed = shown_ids(as_carol, query)
    assert len(listed) == 11

    url, visited = run_url_in_list(as_carol, query, listed[0]), [listed[0]]
    assert not neighbor_url(as_carol, url, "prev")
    while following := neighbor_url(as_carol, url, "next"):
        assert shown_run_id(as_carol, neighbor_url(as_carol, following, "prev")) == visited[-1]
        url = following
        visited.append(shown_run_id(as_carol, url))
    assert visited == listed


def test_back_link_leads_to_the_same_page(make_runs: MakeRun, mirror_run: MakeRun, as_carol: Client) -> None:  # noqa: F811
    make_runs(120)
    second = page_link(as_carol, "?tz=Asia/Tokyo", "Older") or ""
    listed = shown_ids(as_carol, second)
    first_url, last_url = (run_url_in_list(as_carol, second, run_id) for run_id in (listed[0], listed[-1]))
    mirror_run(id="run_new")  # Runs that arrive do not move the page.
    Run.objects.filter(upstream_id="run_new").update(created_at=timezone.now())

    for url in (first_url, last_url):
        back = urlsplit(back_url(as_carol, url))
        assert shown_ids(as_carol, f"?{back.query}") == listed
        assert back.fragment == f"run-{urlsplit(url).path.split('/')[-3]}"
        assert "tz=Asia" in back.query
    # For a run beyond that page, the list begins with that run.
    beyond = neighbor_url(as_carol, last_url, "next")
    assert shown_ids(as_carol, f"?{urlsplit(back_url(as_carol, beyond)).query}")[0] == shown_run_id(as_carol, beyond)
    # The first page keeps its rows too.
    url = run_url_in_list(as_carol, "?o=-created_at", "run_003")
    Run.objects.filter(upstream_id="run_119").update(created_at=timezone.now())
    assert shown_ids(as_carol, f"?{urlsplit(back_url(as_carol, url)).query}")[0] == "run_new"


def test_edit_pages_keep_the_place(
    make_runs: MakeRun,  # noqa: F811
    as_alice: Client,
    settings: Settings,
) -> None:
    settings.RUNSADMIN_PUSH_WAIT = 0.2
    make_runs(3, metadata={"team": "blue"})
    run = Run.objects.get(upstream_id="run_000")
    url = run_url_in_list(as_alice, "?q=metadata.team:blue", "run_000")
    suffix = urlsplit(url).query
    to_form = first_match(as_alice.get(url).text, r'action="([^"]+)" class="ra-actions"')
    assert urlsplit(to_form).query == suffix

    form_url = as_alice.post(to_form, {"CHANGE_FORM-action": "edit_metadata", "_selected_action": str(run.pk)}).headers[
        "Location"
    ]
    assert urlsplit(form_url).query == suffix
    saved = as_alice.post(form_url, metadata_form(("team", "red"), base=base_field(as_alice, run)))
    edit = Edit.objects.get()
    assert urlsplit(saved.headers["Location"])[2:4] == (f"/admin/runsadmin/edit/{edit.pk}/change/", suffix)

    shown = as_alice.get(saved.headers["Location"]).text
    to_run = first_match(shown, r'href="([^"]+)">Show the run')
    assert urlsplit(to_run).query == suffix
    assert urlsplit(back_url(as_alice, to_run)).fragment == f"run-{run.pk}"


def test_list_without_the_id_column_opens_runs(make_runs: MakeRun, as_carol: Client) -> None:  # noqa: F811
    make_runs(2)
    url = f"{LIST}{first_match(as_carol.get(f'{LIST}?columns=status,model').text, r'class="ra-open" href="([^"]+)"')}"
    assert shown_run_id(as_carol, url) == "run_000"
    assert shown_run_id(as_carol, neighbor_url(as_carol, url, "next")) == "run_001"


def test_long_search_keeps_the_list_small(make_runs: MakeRun, as_carol: Client) -> None:  # noqa: F811
    """Each row's link repeats a search of 500 characters once, and one of 7,500 not at all."""
    make_runs(50)
    short, long, longest = (
        as_carol.get(LIST, {"q": " ".join([f"-metadata.x:{'y' * length}"] * terms)})
        for length, terms in ((10, 1), (500, 1), (500, 15))
    )
    for response in (short, long, longest):
        assert all(f">{run_id}<" in response.text for run_id in ids(50))
    assert len(long.content) < len(short.content) + 50 * 600 + 20_000
    assert len(longest.content) < len(short.content) + 150_000


def test_run_that_no_longer_matches_is_marked(make_runs: MakeRun, as_carol: Client) -> None:  # noqa: F811
    make_runs(3, status="failed")
    url = run_url_in_list(as_carol, "?q=status:failed", "run_001")
    assert "no longer matches" not in as_carol.get(url).text
    Run.objects.filter(upstream_id="run_001").update(status="completed")
    assert "no longer matches" in as_carol.get(url).text
    assert shown_run_id(as_carol, neighbor_url(as_carol, url, "next")) == "run_002"


def test_slow_search_does_not_delay_the_page(
    make_runs: MakeRun,  # noqa: F811
    as_carol: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_runs(2)
    url = run_url_in_list(as_carol, "?q=status:completed", "run_000")
    monkeypatch.setattr(run_position, "SECONDS", 0.0)
    text = as_carol.get(url).text
    assert "the search failed or is slow" in text
    assert "Back to the list" in text


@pytest.mark.parametrize(
    "place",
    [
        "from=%00",
        "from=q%3Dcolor:red",
        "from=o%3D-duration%26older%3Dx",
        "from=tz%3DMars",
        "from=x&until=y",
        "from=" + "a" * 9999,
    ],
)
def test_invalid_position_is_not_an_error(place: str, mirror_run: MakeRun, as_carol: Client) -> None:
    run = mirror_run()
    response = as_carol.get(f"{LIST}{run.pk}/change/?{place}")
    assert response.status_code == 200
    assert "Back to the list" in response.text


def test_back_link_stays_on_this_site(mirror_run: MakeRun, as_carol: Client) -> None:
    run = mirror_run()
    assert back_url(as_carol, f"{LIST}{run.pk}/change/?from=//evil.example/").startswith(LIST)


def test_ticked_runs_that_no_longer_match_are_named(make_runs: MakeRun, as_carol: Client) -> None:  # noqa: F811
    make_runs(4, status="failed")
    keys = list(Run.objects.order_by("pk").values_list("pk", flat=True))
    Run.objects.filter(pk=keys[1]).update(status="completed")
    url = f"{LIST}ticked/?q=status:failed"

    left = as_carol.post(url, {"keys": ",".join(map(str, [*keys[:3], 10**9]))}).json()

    assert left == {"left": [{"key": keys[1], "run": Run.objects.get(pk=keys[1]).upstream_id}], "gone": [10**9]}
    assert as_carol.post(f"{LIST}ticked/?q=color:red", {"keys": "1"}).status_code == 400
    assert as_carol.post(f"{LIST}ticked/", {"keys": "x"}).status_code == 404
