"""The columns of lists and exports of runs."""

import datetime as dt
from typing import Any

import pytest

from runsadmin.errors import InvalidColumns
from runsadmin.models import Run
from runsadmin.search.fields import KINDS
from runsadmin.services import run_columns
from tests.conftest import MakeRun


def test_every_field_of_a_search_is_a_column() -> None:
    assert {column.name for column in run_columns.ALL} == {*KINDS, "metadata"}


@pytest.mark.parametrize("key", ["team", "cost center", 'a,"b"', "a\\b", "a.b", " ", "ключ"])
def test_columns_are_read_as_written(key: str) -> None:
    columns = [run_columns.of_key(key), *run_columns.DEFAULT]

    assert run_columns.parse(",".join(map(str, columns))) == columns


def test_columns_are_not_repeated() -> None:
    assert run_columns.parse("all , id, metadata.team,metadata.team") == [*run_columns.ALL, run_columns.of_key("team")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,statsu", "Did you mean status?"),
        ("metdata.team", "Did you mean metadata.team?"),
        ("team", "Did you mean metadata.team?"),
        (" ", "The list of columns is empty"),
        ("metadata.", "A key has 1 to 512 characters"),
        (f"metadata.{'k' * 513}", "A key has 1 to 512 characters"),
        ('metadata."a"b', "At character 1"),
        ('id,metadata."a', "At character 4"),
        (",".join(f"metadata.{n}" for n in range(101)), "at most 100"),
        ("x" * 10_001, "10,000 characters"),
    ],
)
def test_invalid_columns_are_explained(text: str, message: str) -> None:
    with pytest.raises(InvalidColumns, match=message.replace("?", r"\?")):
        run_columns.parse(text)


def test_each_column_has_its_value(mirror_run: MakeRun) -> None:
    run = mirror_run(
        created_at=1769850000, started_at=1769850001, completed_at=1769850009, assistant_id="asst_1",
        usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}, metadata={"team": "blue", "empty": ""},
    )  # fmt: skip

    def shown(name: str) -> run_columns.Value:
        [column] = run_columns.parse(name)
        return run_columns.value(column, run)

    assert shown("id") == run.upstream_id
    assert shown("thread") == run.thread.upstream_id
    assert shown("created") == dt.datetime(2026, 1, 31, 9, tzinfo=dt.UTC)
    assert shown("duration") == dt.timedelta(seconds=8)
    assert (shown("tokens"), shown("prompt_tokens"), shown("completion_tokens")) == (3, 1, 2)
    assert (shown("error"), shown("failed"), shown("missing")) == (None, None, None)
    assert shown("metadata") == run.metadata
    assert (shown("metadata.team"), shown("metadata.empty"), shown("metadata.other")) == ("blue", "", None)


def test_list_shows_metadata_without_reading_runs(mirror_run: MakeRun, django_assert_num_queries: Any) -> None:
    mirror_run(metadata={"team": "blue"})
    [run] = Run.objects.defer("raw").prefetch_related("pairs")

    with django_assert_num_queries(0):
        assert run_columns.value(run_columns.of_key("team"), run) == "blue"


def test_unknown_metadata_is_not_shown(mirror_run: MakeRun) -> None:
    run = mirror_run(metadata={"team": "blue"})
    run.metadata_state = "not_shown"

    assert run_columns.value(run_columns.of_key("team"), run) is None
