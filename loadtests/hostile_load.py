"""A sync of many threads, some of which have bad items, while edits are sent and workers write their logs."""

import json
import random
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import connection

from loadtests.environment import Environment
from loadtests.report import Counts
from runsadmin.bulk_patch import BulkPatch
from runsadmin.models import BulkEdit, Edit, Run, Sync
from runsadmin.models.bulk_edit import ENDED
from runsadmin.models.sync import UNFINISHED
from runsadmin.services import bulk_edits, threads
from tests.sandbox_client import Json, make_run
from tests.waiting import until

TIMEOUTS = {
    "RUNSADMIN_UPSTREAM_CONNECT_TIMEOUT": "0.5",
    "RUNSADMIN_UPSTREAM_READ_TIMEOUT": "1",
    "RUNSADMIN_SYNC_EVERY": "86400",  # So that the sync of the test is the only one.
}
MAX_LINES_A_MINUTE = 100

# A value in a run that is replaced by bytes which no JSON library writes.
PLACEHOLDER = b'"@"'


def page(*runs: Any) -> bytes:
    return json.dumps({"object": "list", "data": runs, "has_more": False}).encode()


def run_with(**fields: Any) -> Callable[[str], bytes]:
    return lambda thread_id: page(make_run(**{"id": f"run_{thread_id}", "thread_id": thread_id, **fields}))


def run_with_bytes(content: bytes, **fields: Any) -> Callable[[str], bytes]:
    return lambda thread_id: run_with(**fields)(thread_id).replace(PLACEHOLDER, content)


def body(content: bytes) -> Callable[[str], bytes]:
    return lambda thread_id: content


def all_fields(value: object) -> Callable[[str], bytes]:
    return lambda thread_id: page(dict.fromkeys(make_run(), value) | {"id": f"run_{thread_id}", "thread_id": thread_id})


def text_of(length: int, seed: int) -> str:
    """Text that cannot be compressed."""
    letters = random.Random(seed)
    return "".join(chr(letters.randrange(0x4E00, 0x9FFF)) for _ in range(length))


# What the list of a thread returns. Bad: the sync reports an error of the thread. Odd: it can be read.
# A sync reports each unreadable field once, so each of the first two has a field of its own.
BAD: Mapping[str, Callable[[str], bytes]] = {
    "a time in the year 999999": run_with(expires_at="999999-01-01T00:00:00Z"),
    "a number of 400 digits": run_with_bytes(b"9" * 400, created_at="@"),
    "not a number": run_with_bytes(b"NaN", usage="@"),
    "nested 10,000 deep": run_with_bytes(b"[" * 10_000 + b"]" * 10_000, metadata={"a": "@"}),
    "10,000 brackets": body(b"[" * 10_000),
    "wrong types": all_fields([[{}]]),
    "numbers for texts": all_fields(5),
    "an id that is too long": run_with(id="r" * 5000),
    "an empty id": run_with(id=""),
    "U+0000 in an id": run_with(id="run_\0"),
    "invalid UTF-8": run_with_bytes(b'"\xff\xfe"', model="@"),
    "truncated JSON": lambda thread_id: run_with()(thread_id)[:-50],
    "a run of another thread": run_with(thread_id="thread_elsewhere"),
    "a value no column can hold": run_with(model="refused"),
    "items that are no objects": body(json.dumps({"data": [1, None, "x", [], {}]}).encode()),
    "no JSON": body(b"<html><title>Welcome</title></html>"),
    "an empty body": body(b""),
    "1,000 bytes of zero": body(b"\0" * 1000),
}
ODD: Mapping[str, Callable[[str], bytes]] = {
    "U+0000 in texts": run_with(model="a\0", status="\0", metadata={"a\0": "b\0"}, assistant_id="\0"),
    "lone surrogates": run_with(model="\ud800", metadata={"\udfff": "\ud800"}),
    "10,000 keys": run_with(metadata={f"key {number}": "x" for number in range(10_000)}),
    "long keys and values": run_with(metadata={text_of(5000, 1): text_of(5000, 2)}),
    "long texts": run_with(model=text_of(5000, 3), status=text_of(5000, 4), last_error={"code": text_of(5000, 5)}),
    "one id a hundred times": lambda thread_id: page(*[make_run(id="run_same", thread_id=thread_id)] * 100),
    "64-bit numbers": run_with(usage={"total_tokens": 2**63 - 1, "prompt_tokens": 2**62, "completion_tokens": 0}),
}
# Faults of the sandbox that make its responses slow or large.
SLOW: Mapping[str, Json] = {
    "no response": {"kind": "hang"},
    "a page of 60 MB": {"kind": "huge", "bytes": 60_000_000},
    "a body byte by byte": {"kind": "drip", "seconds": 30.0},
    "500 for every page": {"kind": "status", "status": 500},
    "403 for every page": {"kind": "status", "status": 403},
    "pages without an end": {"kind": "endless"},
}


@dataclass
class HostileReport(Counts):
    threads: int = 0
    kinds: int = 0
    seconds: float = 0.0
    log_lines_a_minute: float = 0.0
    seconds_of_the_single_edit: float = 0.0
    seconds_of_the_bulk_edit: float = 0.0
    reasons: dict[str, str] = field(default_factory=dict)
    no_good_thread_missing: list[str] = field(default_factory=list)
    no_bad_thread_without_a_reason: list[str] = field(default_factory=list)
    no_edits_that_ended_after_the_sync: bool = False
    no_excess_of_log_lines: bool = False


# Has the database refuse some rows, as it refuses a value that no column can hold.
REFUSE = {
    "sqlite": """
        CREATE TRIGGER {name} BEFORE {event} ON {table} WHEN {condition} BEGIN SELECT RAISE(ABORT, 'refused'); END""",
    "postgresql": """
        CREATE OR REPLACE FUNCTION refusing() RETURNS trigger AS
            $$ BEGIN RAISE 'refused' USING ERRCODE = 'data_exception'; END $$ LANGUAGE plpgsql;
        CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION refusing()""",
}


@contextmanager
def refusing(table: str, condition: str, event: str = "INSERT") -> Iterator[None]:
    name = f"refusing_{table}_{event.lower()}"
    with connection.cursor() as cursor:
        cursor.execute(REFUSE[connection.vendor].format(name=name, event=event, table=table, condition=condition))
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TRIGGER {name}" + f" ON {table}" * (connection.vendor == "postgresql"))


class HostileLoad:
    def __init__(self, environment: Environment, *, good: int = 49, slow: bool = False, workers: int = 1) -> None:
        self.environment = environment
        self.good = [f"thread_good_{number:03}" for number in range(good)]
        self.workers = workers
        faults: dict[str, tuple[Json, Callable[[str], bytes] | None]] = {
            kind: ({"kind": "raw"}, content) for kind, content in {**BAD, **ODD}.items()
        }
        faults |= {kind: (fault, None) for kind, fault in SLOW.items()} if slow else {}
        self.faults = {f"thread_bad_{number:03}": (kind, *fault) for number, (kind, fault) in enumerate(faults.items())}

    def run(self) -> HostileReport:
        with refusing("runsadmin_run", "NEW.model = 'refused'"):
            return self._run()

    def _run(self) -> HostileReport:
        environment, report = self.environment, HostileReport(threads=len(self.good), kinds=len(self.faults))
        edited = environment.make_runs(40)
        self._make_threads()
        processes = [environment.worker(fast=False) for _ in range(self.workers)]
        began = time.monotonic()
        sync = environment.start_full_sync()
        until(lambda: Sync.objects.get(pk=sync.pk).threads_done > 5)
        report.seconds_of_the_single_edit = self._push_one(edited[0])
        report.seconds_of_the_bulk_edit = self._push_bulk()
        if Sync.objects.get(pk=sync.pk).status not in UNFINISHED:
            report.no_edits_that_ended_after_the_sync = True
        until(lambda: Sync.objects.get(pk=sync.pk).status not in UNFINISHED, seconds=600)
        report.seconds = time.monotonic() - began
        log_lines = sum(len(process.log.read_text().splitlines()) for process in processes)
        report.log_lines_a_minute = log_lines / max(1.0, report.seconds / 60)
        report.no_excess_of_log_lines = report.log_lines_a_minute > MAX_LINES_A_MINUTE
        self._check(sync, report)
        return report

    def _make_threads(self) -> None:
        """Good and bad threads in turn, so that each bad one is followed by good ones."""
        sandbox = self.environment.sandbox
        sandbox.put_runs([make_run(id=f"run_{name}_{n}", thread_id=name) for name in self.good for n in range(2)])
        for thread_id, (_, fault, content) in self.faults.items():
            given = {} if content is None else {"base64": b64encode(content(thread_id)).decode()}
            sandbox.fault(**fault, **given, path=f"/{thread_id}/runs$", times=None)
        bad = list(self.faults)
        names = [name for number, good in enumerate(self.good) for name in (good, *bad[number : number + 1])]
        for name in dict.fromkeys([*names, *bad]):
            threads.track(connection="default", thread_ids=[name], actor=self.environment.alice)

    def _push_one(self, run: Run) -> float:
        began = time.monotonic()
        edit = self.environment.record(run, "red")
        until(lambda: Edit.objects.get(pk=edit.pk).status == Edit.Status.APPLIED)
        return time.monotonic() - began

    def _push_bulk(self) -> float:
        began = time.monotonic()
        bulk_edit = bulk_edits.plan(
            selection=bulk_edits.by_search("metadata.team:blue"), patch=BulkPatch({"note": "x"}), reason="a test",
            actor=self.environment.alice, source=Edit.Source.COMMAND, apply_when_planned=True,
        )  # fmt: skip
        until(lambda: BulkEdit.objects.get(pk=bulk_edit.pk).status in ENDED)
        assert bulk_edit.edits.filter(status=Edit.Status.APPLIED).count() == 39
        return time.monotonic() - began

    def _check(self, sync: Sync, report: HostileReport) -> None:
        mirrored = list(Run.objects.values_list("thread__upstream_id", flat=True))
        report.no_good_thread_missing = [name for name in self.good if mirrored.count(name) != 2]
        for error in sync.errors.exclude(thread=None).select_related("thread").order_by("-pk"):
            if error.thread is not None and error.thread.upstream_id in self.faults:
                report.reasons[self.faults[error.thread.upstream_id][0]] = error.message[:100]
        apart = set(Sync.objects.exclude(thread=None).values_list("thread__upstream_id", flat=True))
        report.no_bad_thread_without_a_reason = [
            kind
            for thread_id, (kind, *_) in self.faults.items()
            if kind not in report.reasons and thread_id not in (mirrored if kind in ODD else apart)
        ]
