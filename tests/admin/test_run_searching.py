"""Searching in the run list: the box, its filters, suggestions, facets, explanations, and the palette."""

import html
import re
from collections.abc import Callable
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import Client

from runsadmin import search
from runsadmin.admin.run_list_parts import EXAMPLES
from runsadmin.models import Run
from tests.conftest import MakeRun

pytestmark = pytest.mark.django_db

LIST = "/admin/runsadmin/run/"
HOSTILE = "<script>alert(1)</script> \"x' \\ )("


@pytest.fixture(autouse=True)
def runs(mirror_run: MakeRun) -> None:
    mirror_run(id="run_a1", status="failed", metadata={"team": "billing", "cost center": HOSTILE})
    mirror_run(id="run_b2", metadata={"team": "Search"})


def search_of(client: Client, query: str) -> str:
    """The search in the URL to which the list redirects."""
    location = client.get(f"{LIST}?{query}").headers["Location"]
    return parse_qs(urlsplit(location).query, keep_blank_values=True)["q"][0]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("status=failed", "status:failed"),
        ("q=billing&status=failed", "billing status:failed"),
        ("q=a+OR+b&status=failed", "(a OR b) status:failed"),
        ("q=status:failed&status=expired&created=week", "status:expired created:>-7d"),
        ("q=a+status:failed&status=", "a"),
        ("q=created:>-7d&since=2026-01-01T00:00", "created:>=2026-01-01T00:00"),
        ("since=2026-01-01T00:00&until=2026-01-31T12:00", "created:[2026-01-01T00:00 TO 2026-01-31T12:00]"),
        ("q=a+created:>=2026-01-01T00:00&since=&until=", "a"),
        ("q=created:2026-01&since=&until=", "created:2026-01"),
        ("q=created:>=2026-01-01T00:00&status=failed", "created:>=2026-01-01T00:00 status:failed"),
        ("missing=yes&connection=default", "missing:* connection:default"),
    ],
)
def test_filters_become_part_of_the_search(as_carol: Client, query: str, expected: str) -> None:
    assert search_of(as_carol, query) == expected


def test_other_conditions_are_kept(as_carol: Client) -> None:
    several = "status:(failed OR expired)"
    assert search.parse(search_of(as_carol, f"q={several}&status=other")) == search.parse(several)
    assert search_of(as_carol, f"q={several}&status=failed") == "status:failed"


def test_filters_keep_the_other_parameters(as_carol: Client) -> None:
    location = as_carol.get(f"{LIST}?o=-total_tokens&status=failed&older=2026-01-01T00:00:00Z,1").headers["Location"]
    assert location == f"{LIST}?o=-total_tokens&q=status%3Afailed"


@pytest.mark.parametrize(
    "query", ["status=nosuch", "created=never", "since=yesterday", "since=2026-02-01&until=2026-01-01"]
)
def test_invalid_filter_is_explained(as_carol: Client, query: str) -> None:
    shown = as_carol.get(f"{LIST}?q=billing&{query}", follow=True)
    assert shown.redirect_chain[-1][0].endswith("?q=billing")
    assert re.search("Choose one of the options|Time range: ", shown.text)


def test_selects_show_what_is_searched(as_carol: Client) -> None:
    def selected(query: str) -> list[str]:
        shown = as_carol.get(f"{LIST}?{urlencode({'q': query})}").text
        return re.findall(r'<option value="(\w+)" selected>', shown)

    assert selected("status:failed created:>-7d") == ["failed", "week"]
    assert selected("status:(failed OR expired)") == ["other"]
    assert selected("failed") == []


def test_suggestions_are_offered(as_carol: Client) -> None:
    shown = as_carol.get(f"{LIST}suggestions/", {"q": "sttus:x metadata.team:bi", "at": "24"}).text

    assert 'data-text="billing"' in shown
    assert 'data-begin="22"' in shown
    assert "there is no field &#x27;sttus&#x27;" in shown
    assert 'data-place="0"' in shown
    for at in ("", "x", "-1", "9" * 40, "\u0663"):
        assert as_carol.get(f"{LIST}suggestions/", {"q": "bi", "at": at}).status_code == 200
    assert "<script>" not in as_carol.get(f"{LIST}suggestions/", {"q": 'metadata."cost center":'}).text


def test_parts_need_the_permission(client_for: Callable[[User], Client], alice: User) -> None:
    alice.user_permissions.clear()
    alice.groups.clear()
    client = client_for(alice)
    for part in ("suggestions", "facets", "explanation", "count"):
        assert client.get(f"{LIST}{part}/").status_code == 403, part


def test_facets_add_to_the_search(as_carol: Client) -> None:
    shown = as_carol.get(f"{LIST}facets/?q=run_a1").text

    assert "Counted in 1 run." in shown
    assert 'href="/admin/runsadmin/run/?q=metadata.team%3A%2A"' in shown
    assert "billing" in as_carol.get(f"{LIST}facets/?q=run_a1&facet=team").text
    assert 'href="/admin/runsadmin/run/?q=-error%3A%2A"' in shown
    assert "not set" in shown
    assert "<script>" not in as_carol.get(f"{LIST}facets/", {"facet": "cost center"}).text
    assert "At character 1" in as_carol.get(f"{LIST}facets/?q=color:red").text


def test_empty_list_is_explained(as_carol: Client) -> None:
    assert 'hx-get="/admin/runsadmin/run/explanation/?q=metadata.team%3Abiling"' in html.unescape(
        as_carol.get(f"{LIST}?q=metadata.team%3Abiling").text
    )
    shown = as_carol.get(f"{LIST}explanation/?q=metadata.team:biling").text
    assert 'href="/admin/runsadmin/run/?q=metadata.team%3Abilling"' in shown
    shown = as_carol.get(f"{LIST}explanation/?q=metadata.team:biling&tz=Europe/Berlin&columns=id").text
    assert "?q=metadata.team%3Abilling&amp;columns=id&amp;tz=Europe%2FBerlin" in shown
    assert as_carol.get(f"{LIST}explanation/?q=color:red").text.strip() == ""


def test_values_are_links_to_searches(as_carol: Client) -> None:
    run = Run.objects.get(upstream_id="run_a1")
    for page in (LIST, f"{LIST}{run.pk}/change/"):
        shown = as_carol.get(page).text
        urls = [html.unescape(url) for url in re.findall(r'<a data-term[^>]*?href="([^"]*)"', shown)]
        found = {parse_qs(urlsplit(url).query)["q"][0] for url in urls}
        hostile = search.Term(search.Field("metadata", "cost center"), search.Equal(HOSTILE))
        assert {"status:failed", f"model:{run.model}", "metadata.team:billing", str(hostile)} <= found, page


def test_curl_command_finds_the_same_runs(as_carol: Client) -> None:
    shown = html.unescape(as_carol.get(f"{LIST}?q=metadata.team:billing&o=-total_tokens").text)
    command = re.search(r"curl -H .*?'(http://testserver/api/v1/runs/[^']*)'", shown)
    assert command
    assert parse_qs(urlsplit(command[1]).query) == {"q": ["metadata.team:billing"], "sort": ["-total_tokens"]}


def test_examples_are_valid() -> None:
    for text, _ in EXAMPLES:
        assert search.parse(text) is not None


def palette(client: Client, text: str) -> list[tuple[str, str]]:
    shown = client.get("/admin/search/", {"s": text}).text
    return [
        (html.unescape(title), html.unescape(url))
        for url, title in re.findall(r'href="([^"]*)"\s+data-title="([^"]*)"', shown)
    ]


def test_palette_searches_and_suggests(as_carol: Client) -> None:
    assert palette(as_carol, "bill") == [
        ("bill", f"{LIST}?q=bill"),
        ("metadata.team:billing", f"{LIST}?q=metadata.team%3Abilling"),
    ]
    assert ("status:", f"{LIST}?complete=status%3A") in palette(as_carol, "stat")
    assert ("metadata.team:Search", f"{LIST}?q=metadata.team%3ASearch") in palette(as_carol, "metadata.team:S")
    assert [title for title, _ in palette(as_carol, "run_b2")][-1] == "run_b2"
    assert palette(as_carol, "") == []
    assert palette(as_carol, "RUN_B2") == [("RUN_B2", f"{LIST}?q=RUN_B2")]  # Case matters, also after other searches.
    assert "there is no field" in as_carol.get("/admin/search/", {"s": "color:red"}).text
    for text in ("\0", "x" * 20_000, HOSTILE, "((("):
        assert as_carol.get("/admin/search/", {"s": text}).status_code == 200


def test_palette_needs_permissions(client_for: Callable[[User], Client], alice: User) -> None:
    alice.user_permissions.clear()
    alice.groups.clear()
    assert palette(client_for(alice), "run_") == []
