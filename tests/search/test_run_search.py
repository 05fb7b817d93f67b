"""Which runs a search finds, where the plan or the stored values matter."""

import datetime as dt
from zoneinfo import ZoneInfo

import pytest

from runsadmin.models import MetadataPair, Run, Thread
from runsadmin.search.parsing import MAX_DEPTH, MAX_TERMS
from runsadmin.services.run_search import RunSearch, sources

pytestmark = pytest.mark.django_db

DAY = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def runs() -> None:
    """run_0, run_1 and run_2, twelve hours apart."""
    thread = Thread.objects.create(connection="default", upstream_id="thread_1")
    for number, team in enumerate(["red", "red", "blue"]):
        run = Run.objects.create(
            connection="default", upstream_id=f"run_{number}", thread=thread, status="completed", model="gpt-4o",
            created_at=DAY + dt.timedelta(hours=12 * number), raw="{}", digest="", requested_at=DAY, received_at=DAY,
        )  # fmt: skip
        MetadataPair.objects.create(run=run, key="team", value=team, created_at=run.created_at)


def found(query: str, tz: dt.tzinfo = dt.UTC) -> str:
    """Returns the numbers of the runs that the query finds, such as `01`."""
    runs = RunSearch.parse(query, tz).read_page(Run.objects.all(), 10).rows[::-1]
    return "".join(run.upstream_id.removeprefix("run_") for run in runs)


def test_day_depends_on_the_time_zone() -> None:
    assert found("created:2026-03-01") == "01"
    assert found("created:2026-03-01", ZoneInfo("America/New_York")) == "12"
    assert found("created:2026-03-01T12:00", ZoneInfo("America/New_York")) == ""
    assert found("created:2026-03-01T07:00", ZoneInfo("America/New_York")) == "1"
    assert found("created:2026-03-01T12:00Z", ZoneInfo("America/New_York")) == "1"


def test_unknown_creation_time_matches_no_test() -> None:
    Run.objects.filter(upstream_id="run_0").update(created_at_is_known=False)

    assert found("created:2026-03") == found("created:*") == "12"
    assert found("-created:2026-03") == found("-created:*") == "0"


@pytest.mark.parametrize("counted", [0, 2, 500])
def test_common_and_rare_words_are_found(counted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_COUNTED", counted)

    assert found("re") == found("red gpt run_ thread_1") == "01"
    assert found("blue gpt-4o*") == found("run_2") == "2"
    assert found("red blue") == found("gpt4") == ""


def test_words_are_found_among_many_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    MetadataPair.objects.filter(value="blue").update(key="color")
    assert found("blue") == "2"
    monkeypatch.setattr(sources, "_MAX_KEYS", 1)
    assert found("blue") == "2"
    assert found("red") == "01"


def test_long_values_are_found_by_their_prefix() -> None:
    MetadataPair.objects.filter(value="blue").update(value="x" * 512)  # Longer values are cut to this length.

    assert found(f"metadata.team:{'x' * 512}") == found(f"metadata.team:{'x' * 500}*") == "2"
    assert found(f"metadata.team:{'x' * 511}") == ""


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        (" ".join(["metadata.team:red"] * MAX_TERMS), "01"),
        (" ".join(["run_"] * MAX_TERMS), "012"),
        (" OR ".join(f"w{number}" for number in range(MAX_TERMS - 1)) + " OR red", "01"),
        (" OR ".join(["metadata.team:blue"] * MAX_TERMS), "2"),
        ("(" * MAX_DEPTH + "red" + " OR model:x) -model:y" * MAX_DEPTH, "01"),
        ("-(run_ " * (MAX_DEPTH // 2) + "red" + ")" * (MAX_DEPTH // 2), "2"),
    ],
    ids=["pairs", "words", "any word", "any pair", "nested", "excluded"],
)
def test_large_searches_are_completed(query: str, numbers: str) -> None:
    assert found(query) == numbers
