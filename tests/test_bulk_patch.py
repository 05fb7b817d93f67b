"""The patch of a bulk edit: what it accepts, and what it changes in one run."""

import datetime as dt
from dataclasses import fields, replace

import pytest

from runsadmin.bulk_patch import TEXTS, TIMES, BulkPatch, Skipped, TemplateFields
from runsadmin.errors import InvalidMetadata
from runsadmin.metadata import Metadata
from runsadmin.models import Run, Thread
from runsadmin.services.bulk_edits.planning import template_fields

RUN = TemplateFields(
    id="run_1",
    thread="thread_1",
    assistant="asst_1",
    model="gpt-4o",
    status="completed",
    connection="default",
    error="",
    created=dt.datetime(2026, 5, 1, 23, 30, tzinfo=dt.timezone(dt.timedelta(hours=-2))),
    started=None,
    completed=None,
    failed=None,
    cancelled=None,
    expires=None,
)


def resolve(patch: BulkPatch, **metadata: str) -> dict[str, object]:
    return dict(patch.resolve(RUN, Metadata(metadata)).as_merge_patch())


def codes(patch: BulkPatch) -> list[str]:
    with pytest.raises(InvalidMetadata) as caught:
        patch.check()
    return [error.code for error in caught.value.errors]


def test_patch_resolves_to_its_changes() -> None:
    patch = BulkPatch({"team": "red", "same": "x"}, ["old"], {"owner": "lead"})
    patch.check()
    assert resolve(patch, same="x", old="1", owner="ann", kept="y") == {
        "team": "red", "old": None, "owner": None, "lead": "ann",
    }  # fmt: skip


def test_templates_are_filled() -> None:
    patch = BulkPatch({"batch": "{model} of {created:%Y-%m-%d}", "brace": "{{x}}"})
    assert resolve(patch) == {"batch": "gpt-4o of 2026-05-02", "brace": "{x}"}


@pytest.mark.parametrize("field", ["error", "started"])
def test_field_without_value_skips_run(field: str) -> None:
    with pytest.raises(Skipped, match=f"no {field}") as caught:
        resolve(BulkPatch({"team": f"{{{field}}}"}))
    assert caught.value.why == "no_value"


def test_rename_never_overwrites() -> None:
    with pytest.raises(Skipped) as caught:
        resolve(BulkPatch({}, rename={"owner": "lead"}), owner="ann", lead="bob")
    assert caught.value.why == "name_taken"
    assert resolve(BulkPatch({}, rename={"owner": "lead"}), owner="ann", lead="ann") == {"owner": None}


@pytest.mark.parametrize(
    ("patch", "reason"),
    [
        (BulkPatch({"team": "red"}), "The run already has the values to set ('team')."),
        (BulkPatch({}, ["gone"]), "The run does not have the keys to remove ('gone')."),
        (BulkPatch({}, rename={"owner": "lead"}), "The run does not have the keys to rename ('owner')."),
        (
            BulkPatch({"team": "red"}, rename={"owner": "lead"}),
            "The run already has the values to set ('team'), and does not have the keys to rename ('owner').",
        ),
    ],
)
def test_unchanged_run_has_a_reason(patch: BulkPatch, reason: str) -> None:
    assert resolve(patch, team="red") == {}
    assert patch.why_unchanged() == reason


def test_every_error_is_reported() -> None:
    assert codes(BulkPatch({})) == ["nothing_to_change"]
    assert codes(BulkPatch({"a": "1"}, ["a"])) == ["named_twice"]
    assert codes(BulkPatch({"a": "{nosuch}", "b": "{model:x}", "c": "x" * 513, "d": "\0"})) == [
        "invalid_template", "invalid_template", "value_too_long", "invalid_character",
    ]  # fmt: skip


def test_template_with_too_much_text_is_refused() -> None:
    BulkPatch({"a": "x" * 510 + "{model}"}).check()
    assert codes(BulkPatch({"a": "x" * 512 + "{model}"})) == ["value_too_long"]


def test_planning_fills_every_field() -> None:
    """A field that is listed but not filled would fail the whole plan."""
    now = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
    run = Run(
        upstream_id="run_1", thread=Thread(upstream_id="thread_1"), assistant_id="asst_1", model="gpt-4o",
        status="failed", connection="default", error_code="rate_limit_exceeded", created_at=now, started_at=now,
        completed_at=now, failed_at=now, cancelled_at=now, expires_at=now,
    )  # fmt: skip
    patch = BulkPatch({name: f"{{{name}}}" for name in (*TEXTS, *TIMES)})
    patch.check()
    filled = patch.resolve(template_fields(run), Metadata())
    assert filled.keys == {field.name for field in fields(TemplateFields)}


def test_unknown_creation_time_has_no_value() -> None:
    with pytest.raises(Skipped):
        BulkPatch({"a": "{created}"}).resolve(replace(RUN, created=None), Metadata())
