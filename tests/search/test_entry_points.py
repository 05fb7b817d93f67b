"""The list of runs, the REST API, bulk edits and commands find the same runs, and report the same errors."""

import datetime as dt
import html
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from runsadmin import search
from runsadmin.errors import InvalidSearch
from runsadmin.models import BulkEdit, DraftSelection, Run, SavedView
from runsadmin.models.bulk_edit import unpack_keys
from tests.api.conftest import Api, api  # noqa: F401 - a fixture
from tests.management.conftest import Manage, manage  # noqa: F401 - a fixture
from tests.search.cases import Row, store

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/runsadmin/run/"
ENTRY_POINTS = (
    "page",
    "palette",
    "select_all",
    "rest",
    "rest_bulk_edit",
    "where",
    "view_in_list",
    "view_in_rest",
    "view_in_command",
    "export_in_page",
    "export_in_rest",
    "export_in_command",
)
CHANGE: dict[str, Any] = {"set": {"a": "b"}, "reason": "r"}
UTC = dt.UTC
TIMES = (
    dt.datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC), dt.datetime(2026, 1, 1, tzinfo=UTC),
    dt.datetime(2026, 2, 1, 23, 59, 59, tzinfo=UTC), dt.datetime(2026, 2, 2, tzinfo=UTC),
)  # fmt: skip
VALUES: dict[str, tuple[Any, ...]] = {
    "status": ("failed", "expired", "completed", "Failed"),
    "model": ("gpt-4o", "gpt-4o-mini", "search-1", None),
    "error": ("rate_limit_exceeded", "server_error", None),
    "assistant": ("asst_abc", "asst_abcd", "search", None),
    "thread": ("thread_abc", "thread_abcd"),
    "tokens": (5000, 5001, 90_000, None),
    "duration": (dt.timedelta(seconds=60), dt.timedelta(seconds=61), None),
}
METADATA: dict[str, tuple[str | None, ...]] = {
    "team": ("search", "search-ads", "ads", None),
    "cost center": ("R&D", "R", "cost center 7", None),
    "ticket": ("OPS-1", "OPS-", "OPS", "ops-1", None),
    "owner": ("bob", "", None),
    **dict.fromkeys(('quo"ted', "a.b", "a:b", "(x)", "back\\slash", "😀", "*", "OR", ""), ("x", "x y", None)),
}


def has(name: str, passes: Callable[[Any], bool]) -> Callable[[Row], bool]:
    """A predicate: the run has the field, and its value passes."""
    return lambda row: name in row.values and passes(row.values[name])


def tagged(key: str, passes: Callable[[str], bool] = lambda value: True) -> Callable[[Row], bool]:
    return lambda row: key in row.metadata and passes(row.metadata[key])


def word(text: str) -> Callable[[Row], bool]:
    return lambda row: any(each.startswith(text) for each in row.words)


FAILED, EXPIRED = has("status", lambda value: value == "failed"), has("status", lambda value: value == "expired")
GPT_4O = has("model", lambda value: value == "gpt-4o")
SEARCH, RESEARCH = tagged("team", lambda value: value == "search"), tagged("cost center", lambda value: value == "R&D")
EXAMPLES: dict[str, Callable[[Row], bool]] = {
    # The examples in docs/search.md.
    "status:failed model:gpt-4o": lambda row: FAILED(row) and GPT_4O(row),
    "status:(failed OR expired) -metadata.owner:*": lambda row: (
        (FAILED(row) or EXPIRED(row)) and "owner" not in row.metadata
    ),
    "metadata.team:search": SEARCH,
    'metadata."cost center":"R&D"': RESEARCH,
    "metadata.ticket:OPS-*": tagged("ticket", lambda value: value.startswith("OPS-")),
    "created:>=2026-01-01": has("created", lambda value: value >= TIMES[1]),
    "created:[2026-01-01 TO 2026-02-01]": has("created", lambda value: TIMES[1] <= value < TIMES[3]),
    "created:>-7d": has("created", lambda value: value > timezone.now() - dt.timedelta(days=7)),
    "tokens:>5000": has("tokens", lambda value: value > 5000),
    "duration:>60s": has("duration", lambda value: value > dt.timedelta(seconds=60)),
    "error:rate_limit_exceeded": has("error", lambda value: value == "rate_limit_exceeded"),
    "assistant:asst_abc": has("assistant", lambda value: value == "asst_abc"),
    "thread:thread_abc": has("thread", lambda value: value == "thread_abc"),
    "id:run_a*": has("id", lambda value: value.startswith("run_a")),
    'search "cost center"': lambda row: word("search")(row) and word("cost center")(row),
    # Nested groups.
    "status:failed OR model:gpt-4o metadata.team:search": lambda row: FAILED(row) or (GPT_4O(row) and SEARCH(row)),
    "-(status:failed OR (model:gpt-4o -metadata.team:search))": lambda row: (
        not (FAILED(row) or (GPT_4O(row) and not SEARCH(row)))
    ),
    "(metadata.team:(search OR ads) OR NOT (tokens:* -duration:*)) -status:(failed OR expired)": lambda row: (
        (row.metadata.get("team") in ("search", "ads") or not ("tokens" in row.values and "duration" not in row.values))
        and row.values["status"] not in ("failed", "expired")
    ),
    "-" * 29 + "status:failed": lambda row: not FAILED(row),
    " OR ".join(["status:failed", *(f"metadata.ticket:T-{number}" for number in range(99))]): FAILED,
    # Odd keys and values.
    r'metadata."quo\"ted":* AND NOT metadata."a:b":*': lambda row: (
        'quo"ted' in row.metadata and "a:b" not in row.metadata
    ),
    "metadata.a.b:x": tagged("a.b", lambda value: value == "x"),
    'metadata."(x)":"x y"': tagged("(x)", lambda value: value == "x y"),
    r'metadata."back\\slash":*': tagged("back\\slash"),
    "metadata.😀:x*": tagged("😀"),
    'metadata."*":x': tagged("*", lambda value: value == "x"),
    'metadata.OR:x -metadata."":*': lambda row: row.metadata.get("OR") == "x" and "" not in row.metadata,
    'metadata.owner:""': tagged("owner", lambda value: value == ""),
}
ERRORS = [
    "status:failed sttus:expired",
    "status:failed color:red",
    "metadata.team:*ads",
    "created:yesterday",
    'metadata."cost center:x',
    " OR ".join(f"metadata.n:{number}" for number in range(300)),
    "(" * 100 + "status:failed" + ")" * 100,
    "status:failed or model:x",
    "a" * 10_001,
]


def make_rows(count: int = 45) -> list[Row]:
    """Makes so few runs that all of them fit on one page of the list."""
    chance = random.Random(8)
    now = timezone.now()
    times = (*TIMES, now - dt.timedelta(days=6), now - dt.timedelta(days=8), None)
    rows = []
    for number in range(count):
        values = {name: chance.choice(choices) for name, choices in VALUES.items()}
        values |= {"id": f"run_{'ab'[number % 2]}{number}", "connection": "default", "created": chance.choice(times)}
        metadata = {key: chance.choice(choices) for key, choices in METADATA.items()}
        rows.append(
            Row(
                {name: value for name, value in values.items() if value is not None},
                {key: value for key, value in metadata.items() if value is not None},
            )
        )
    return rows


@dataclass(frozen=True)
class EntryPoints:
    """Sends searches to each entry point. Each method returns the primary keys of the runs, or the error message."""

    pages: Client
    api: Api
    manage: Manage

    def page(self, query: str) -> set[int] | str:
        return self._of_page(self.pages.get(LIST, {"q": query}).text)

    def palette(self, query: str) -> set[int] | str:
        shown = self.pages.get("/admin/search/", {"s": query}).text
        first = re.search(r'href="([^"]*)"\s+data-title="[^"]*"\s+data-description="([^"]*)"', shown)
        assert first is not None
        url, description = map(html.unescape, first.groups())
        return self._of_page(self.pages.get(url).text) if description == "Search runs" else description

    def select_all(self, query: str) -> set[int] | str:
        body = {"action": "edit_metadata", "select_across": "1", "_selected_action": "0"}
        response = self.pages.post(LIST, body, query_params={"q": query})
        if response.status_code == 302 and "selection=" in response["Location"]:
            return set(unpack_keys(DraftSelection.objects.latest("pk").packed))
        return self._of_page(self.pages.get(response["Location"]).text)

    def rest(self, query: str, **more: str) -> set[int] | str:
        response = self.api.get(f"runs/?{urlencode(more or {'q': query})}").json()
        return _keys([run["id"] for run in response["results"]]) if "results" in response else str(response["detail"])

    def rest_bulk_edit(self, query: str) -> set[int] | str:
        response = self.api.post("bulk-edits/", CHANGE | {"q": query}).json()
        return _planned() if "planned" in response else str(response["detail"])

    def where(self, query: str) -> set[int] | str:
        return self.command(f"--where={query}")

    def command(self, runs: str) -> set[int] | str:
        output = self.manage("edit_metadata", runs, "--dry-run", "--set", "a=b", "--reason", "r", "--actor", "alice")
        return output.err if output.code else _planned()

    def view_in_list(self, query: str) -> set[int] | str:
        error = self._save_view(query)
        return error or self._of_page(self.pages.get(LIST, {"view": "v"}, follow=True).text)

    def view_in_rest(self, query: str) -> set[int] | str:
        return self._save_view(query) or self.rest("", view="v")

    def view_in_command(self, query: str) -> set[int] | str:
        return self._save_view(query) or self.command("--view=v")

    def export_in_page(self, query: str) -> set[int] | str:
        body = {"action": "export", "select_across": "1", "_selected_action": "0"}
        form = self.pages.post(LIST, body, query_params={"q": query})["Location"]
        if not form.startswith("/admin/runsadmin/export/add/"):
            return self._of_page(self.pages.get(form).text)
        given = dict(parse_qsl(urlsplit(form).query))
        response = self.pages.post(urlsplit(form).path, given | {"format": "csv", "columns": "id", "into": "download"})
        return _exported(response.getvalue())

    def export_in_rest(self, query: str) -> set[int] | str:
        response = self.api.get(f"runs/export/?{urlencode({'q': query, 'format': 'csv', 'columns': 'id'})}")
        return _exported(response.getvalue()) if response.status_code == 200 else str(response.json()["detail"])

    def export_in_command(self, query: str) -> set[int] | str:
        with TemporaryDirectory() as folder:
            output = self.manage("export_runs", f"{folder}/runs.csv", f"--where={query}", "--columns=id")
            return output.err if output.code else _exported(Path(f"{folder}/runs.csv").read_bytes())

    def _save_view(self, query: str) -> str:
        """Saves the search as a view. Returns the error, or an empty string."""
        SavedView.objects.all().delete()
        response = self.api.post("views/", {"name": "v", "q": query})
        return "" if response.status_code == 201 else str(response.json()["detail"])

    def _of_page(self, text: str) -> set[int] | str:
        if 'role="alert"' in text or "No runs match" in text:
            return html.unescape(text)
        return {int(key) for key in re.findall(r'class="ra-id" href="(\d+)/change/', text)}


def _keys(ids: list[str]) -> set[int]:
    return set(Run.objects.filter(upstream_id__in=ids).values_list("pk", flat=True))


def _exported(content: bytes) -> set[int]:
    """The runs in a CSV file whose only column has their ids."""
    return _keys([line.strip('"') for line in content.decode().splitlines()[1:]])


def _planned() -> set[int]:
    return set(BulkEdit.objects.latest("pk").edits.values_list("run", flat=True))


@pytest.fixture
def entry_points(alice: User, api: Callable[..., Api], manage: Manage) -> EntryPoints:  # noqa: F811
    pages = Client()
    pages.force_login(alice)
    return EntryPoints(pages, api(alice), manage)


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_searches_find_what_the_predicate_selects(entry_point: str, entry_points: EntryPoints) -> None:
    rows = store(make_rows())
    for query, matches in EXAMPLES.items():
        expected = {key for key, row in rows.items() if matches(row)}
        assert 0 < len(expected) < len(rows), query
        assert getattr(entry_points, entry_point)(query) == expected, query


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_all_report_the_same_error(entry_point: str, entry_points: EntryPoints) -> None:
    store(make_rows(1))
    for query in ERRORS:
        with pytest.raises(InvalidSearch) as caught:
            search.parse(query)
        shown = getattr(entry_points, entry_point)(query)
        assert isinstance(shown, str), query
        assert str(caught.value) in shown, query
