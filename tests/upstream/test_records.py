"""Records of runs in the formats of real servers."""

import datetime as dt

import pytest

from runsadmin.upstream.records import RunRecord, Unreadable
from tests.sandbox_client import make_run


def read(**fields: object) -> RunRecord:
    return RunRecord.read(make_run(thread_id="thread_a", **fields), thread_id="thread_a")


@pytest.mark.parametrize("created_at", [1_700_000_000, 1_700_000_000.0, 1_700_000_000_000])
def test_times_are_seconds_or_milliseconds(created_at: float) -> None:
    assert read(created_at=created_at).created_at == dt.datetime(2023, 11, 14, 22, 13, 20, tzinfo=dt.UTC)


@pytest.mark.parametrize("created_at", [None, "yesterday", True, -1, 10**30, float("1e308")])
def test_unreadable_time_is_unknown(created_at: object) -> None:
    record = read(created_at=created_at)
    assert record.created_at is None
    assert "created_at" not in record.columns


def test_duration_is_from_start_to_end() -> None:
    def duration(**times: int | None) -> object:
        return read(**times).columns["duration"]

    assert duration(started_at=100, completed_at=160) == dt.timedelta(seconds=60)
    assert duration(started_at=100, completed_at=None, failed_at=130) == dt.timedelta(seconds=30)
    assert duration(started_at=100, completed_at=None) is None
    assert duration(started_at=None, completed_at=160) is None
    assert duration(started_at=200, completed_at=160) is None


def test_changed_columns_exclude_metadata() -> None:
    run = make_run(thread_id="thread_a", completed_at=None, usage={"total_tokens": 1}, metadata={"team": "red"})

    def changes(**fields: object) -> dict[str, object]:
        old, new = (RunRecord.read(response, thread_id="thread_a") for response in (run, run | fields))
        return new.changes_since(old)

    assert changes(metadata={"team": "blue"}) == {}
    assert changes(metadata={}, status="failed", failed_at=1_900_000_000).keys() == {"status", "failed_at", "duration"}
    # True is not a count, although it equals 1.
    assert changes(usage={"total_tokens": True}) == {"total_tokens": None}


def test_run_without_optional_fields_is_read() -> None:
    record = RunRecord.read({"id": "0f3a", "status": "completed"}, thread_id="thread_a")
    assert record.metadata == {}
    assert (record.columns["total_tokens"], record.columns["model"]) == (None, "")


@pytest.mark.parametrize("response", [None, [], "run", {}, {"id": 5}, {"id": ""}, {"id": "x" * 129}])
def test_value_that_is_not_a_run_is_unreadable(response: object) -> None:
    with pytest.raises(Unreadable):
        RunRecord.read(response, thread_id="thread_a")


def test_run_of_another_thread_is_unreadable() -> None:
    with pytest.raises(Unreadable, match="another thread"):
        RunRecord.read(make_run(thread_id="thread_b"), thread_id="thread_a")


def test_digest_ignores_order() -> None:
    run = make_run(thread_id="thread_a")
    reordered = dict(reversed(run.items()))
    record, other = (RunRecord.read(response, thread_id="thread_a") for response in (run, reordered))
    assert record.digest == other.digest
    assert RunRecord.read(run | {"extra": 1}, thread_id="thread_a").digest != record.digest


def test_lone_surrogates_are_kept() -> None:
    record = read(metadata={"odd": "\ud800"})
    assert record.metadata["odd"] == "\ud800"
    assert "\\ud800" in record.raw
