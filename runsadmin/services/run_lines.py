"""Runs in files: one JSON line for each, as exports write them and imports read them.

A line has the run exactly as upstream sent it, so that its digest stays the same. What the mirror knows in addition, if
that matters, is in a last field named `runsadmin`, which an import removes again:

- `thread_id`, if the response does not name the thread,
- `metadata_state`, if the metadata is not known.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from runsadmin.metadata import MetadataState
from runsadmin.upstream.records import RunRecord, Unreadable

EXTRA = "runsadmin"
_RUN = "thread.run"


def write(raw: bytes, *, thread_id: str, metadata_state: str) -> bytes:
    """The line of a run, with a line feed. `raw` is the stored JSON."""
    extra: dict[str, str] = {}
    if b'"thread_id":%b' % orjson.dumps(thread_id) not in raw:
        extra["thread_id"] = thread_id
    if metadata_state != MetadataState.KNOWN:
        extra["metadata_state"] = metadata_state
    if not extra:
        return raw + b"\n"
    return b'%b,"%b":%b}\n' % (raw[:-1], EXTRA.encode(), orjson.dumps(extra))


def read(run: object) -> tuple[str, RunRecord]:
    """The thread and the record of a run in a file. Raises Unreadable."""
    if not isinstance(run, dict):
        raise Unreadable("This is not a JSON object, so it is not a Run.")
    if (kind := run.get("object")) not in (None, _RUN):
        raise Unreadable(f"This is a {str(kind)[:60]!r}, not a Run ({_RUN!r}).")
    extra = run.pop(EXTRA, None)
    known: Mapping[str, Any] = extra if isinstance(extra, Mapping) else {}
    thread_id = run.get("thread_id") or known.get("thread_id")
    if not isinstance(thread_id, str):
        raise Unreadable("This Run has no `thread_id`.")
    record = RunRecord.read(run, thread_id)
    if known.get("metadata_state") in list(MetadataState):
        record = replace(record, metadata_state=MetadataState(known["metadata_state"]))
    return thread_id, record
