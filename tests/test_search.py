"""The search language: what it finds, and where it reports an error."""

import datetime as dt

import pytest

from runsadmin import search
from runsadmin.errors import InvalidSearch
from runsadmin.models import MetadataPair, Run, Thread
from runsadmin.services import run_search

pytestmark = pytest.mark.django_db

DAY = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def runs() -> None:
    thread = Thread.objects.create(connection="default", upstream_id="thread_1")
    for number, (status, metadata) in enumerate(
        [
            ("completed", {"team": "red", "cost center": "R&D"}),
            ("failed", {"team": "red", "quote": 'a"b\\c'}),
            ("failed", {"team": "blue"}),
        ]
    ):
        run = Run.objects.create(
            connection="default", upstream_id=f"run_{number}", thread=thread, status=status, model="gpt 4",
            created_at=DAY + dt.timedelta(hours=12 * number), raw="{}", digest="", requested_at=DAY, received_at=DAY,
        )  # fmt: skip
        for key, value in metadata.items():
            MetadataPair.objects.create(run=run, connection="default", key=key, value=value, created_at=run.created_at)


def found(query: str) -> list[int]:
    return sorted(
        int(id.removeprefix("run_")) for id in run_search.matching(query).values_list("upstream_id", flat=True)
    )


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [0, 1, 2]),
        ("  status:failed ", [1, 2]),
        ("metadata.team:red", [0, 1]),
        ("metadata.team:red status:failed", [1]),
        ("metadata.team:red metadata.team:blue", []),
        ('metadata."cost center":"R&D"', [0]),
        (r'metadata.quote:"a\"b\\c"', [1]),
        ('model:"gpt 4" id:run_2', [2]),
        ("thread:thread_1 connection:default", [0, 1, 2]),
        ("created:2026-03-01", [0, 1]),
        ("created:>2026-03-01", [2]),
        ("created:<=2026-03-01", [0, 1]),
        ("created:>=2026-03-01T12:00:00", [1, 2]),
        ("created:<2026-03-01T13:00:00+01:00", [0]),
    ],
)
def test_search_finds_runs(query: str, expected: list[int]) -> None:
    assert found(query) == expected


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("team", "At character 1: 'team'"),
        ("status:failed nosuch:x", "At character 15: there is no field 'nosuch'"),
        ("created:soon", "At character 9: 'soon'"),
        ("created:2026-03-01T12:00:00", "expected >=, >, <= or <"),
        ("created:>9999-12-31", "At character 9"),
        ('status:"a"b', "expected a space"),
        ("status:a\0", "U+0000"),
        (" ".join(["status:a"] * 31), "at most 30 words"),
    ],
)
def test_error_names_the_position(query: str, message: str) -> None:
    with pytest.raises(InvalidSearch) as caught:
        search.conditions(query)
    assert message in str(caught.value)


@pytest.mark.parametrize("value", ["plain", "two words", 'a"b\\c'])
def test_word_finds_its_value(value: str) -> None:
    Run.objects.filter(upstream_id="run_1").update(model=value)
    assert found(search.word("model", value)) == [1]


def test_unknown_creation_time_is_not_found() -> None:
    Run.objects.filter(upstream_id="run_0").update(created_at_is_known=False)
    assert found("created:2026-03-01") == [1]
