"""The list of runs, the REST API, bulk edits and commands find the same runs, and report the same errors."""

import re
from collections.abc import Callable
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.test import Client

from runsadmin.models import BulkEdit, Run
from runsadmin.services import bulk_edits
from tests.api.conftest import Api, api  # noqa: F401 - a fixture
from tests.conftest import Connect
from tests.management.conftest import Manage, manage  # noqa: F401 - a fixture
from tests.search.cases import Row, make_rows, store

pytestmark = pytest.mark.django_db(transaction=True)

type Find = Callable[[str], set[int]]

PREDICATES: dict[str, Callable[[Row], bool]] = {
    "status:failed": lambda row: row.values["status"] == "failed",
    "-status:(failed OR expired)": lambda row: row.values["status"] not in ("failed", "expired"),
    'metadata.team:a* OR metadata."cost center":"x y"': lambda row: (
        row.metadata.get("team", "").startswith("a") or row.metadata.get("cost center") == "x y"
    ),
    "-metadata.a.b:* (tokens:>5000 OR -duration:*)": lambda row: (
        "a.b" not in row.metadata and (row.values.get("tokens", 0) > 5000 or "duration" not in row.values)
    ),
    r'metadata."quo\"ted":* AND NOT metadata."a:b":*': lambda row: (
        'quo"ted' in row.metadata and "a:b" not in row.metadata
    ),
    "metadata.😀:* -(model:ab* (error:* OR assistant:*))": lambda row: (
        "😀" in row.metadata
        and not (row.values.get("model", "").startswith("ab") and bool({"error", "assistant"}.intersection(row.values)))
    ),
    "😀": lambda row: any(word.startswith("😀") for word in row.words),
}


@pytest.fixture
def rows(connect: Connect) -> dict[int, Row]:
    rows = [row for row in make_rows(90) if row.values["connection"] == "default"]
    return store(rows[:45])  # They fit on a page of the list.


@pytest.fixture
def finders(alice: User, api: Callable[..., Api], manage: Manage) -> dict[str, Find]:  # noqa: F811
    pages = Client()
    pages.force_login(alice)

    def by_page(query: str) -> set[int]:
        shown = pages.get("/admin/runsadmin/run/", {"q": query}).text
        return {int(key) for key in re.findall(r'class="ra-id" href="/admin/runsadmin/run/(\d+)/change/"', shown)}

    def by_rest(query: str) -> set[int]:
        found = api(alice).get(f"runs/?{urlencode({'q': query, 'page_size': 500})}").json()["results"]
        return set(Run.objects.filter(upstream_id__in=[run["id"] for run in found]).values_list("pk", flat=True))

    def by_command(query: str) -> set[int]:
        output = manage(
            "edit_metadata", "--where", query, "--dry-run", "--set", "a=b", "--reason", "r", "--actor", "alice"
        )
        assert output.code == 0, output.err
        return set(BulkEdit.objects.latest("pk").edits.values_list("run", flat=True))

    return {
        "page": by_page,
        "REST": by_rest,
        "bulk edit": lambda query: set(bulk_edits.by_search(query).keys),
        "command": by_command,
    }


def test_all_find_the_same_runs(rows: dict[int, Row], finders: dict[str, Find]) -> None:
    for query, matches in PREDICATES.items():
        expected = {key for key, row in rows.items() if matches(row)}
        assert expected
        for name, find in finders.items():
            assert find(query) == expected, (name, query)


def test_all_report_the_same_error(
    rows: dict[int, Row],
    alice: User,
    api: Callable[..., Api],  # noqa: F811
    manage: Manage,  # noqa: F811
) -> None:
    query, error = "status:failed sttus:expired", "At character 15: there is no field 'sttus'. Did you mean status?"
    client = Client()
    client.force_login(alice)
    assert error in client.get("/admin/runsadmin/run/", {"q": query}).text.replace("&#x27;", "'")
    body = {"q": query, "set": {"a": "b"}, "reason": "r"}
    for response in (api(alice).get(f"runs/?{urlencode({'q': query})}"), api(alice).post("bulk-edits/", body)):
        assert (response.status_code, response.json()["errors"][0]["position"]) == (400, 15)
        assert error in response.json()["detail"]
    output = manage("edit_metadata", "--where", query, "--set", "a=b", "--reason", "r", "--actor", "alice")
    assert output.code == 1
    assert output.err.startswith(error)
