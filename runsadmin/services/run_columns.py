"""The columns that a list or an export of runs can have: names, labels and values. No HTML.

Names are those of the fields of the search language, and `metadata` for all pairs. Columns are written as a list:
`id,status,metadata.team,metadata."cost center"`. `all` stands for every column.
"""

import datetime as dt
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from typing import Any

from runsadmin import lenient_json
from runsadmin.errors import InvalidColumns
from runsadmin.metadata import MetadataState
from runsadmin.models import Run
from runsadmin.search import Field
from runsadmin.search.fields import METADATA

type Value = str | int | dt.datetime | dt.timedelta | Mapping[str, object] | None

EVERY = "all"
MAX_COLUMNS = 100
MAX_LENGTH = 10_000
_MAX_KEY_LENGTH = 512
_PART = re.compile(r'\s*(metadata\."(?:[^"\\]|\\.)*"|[^,"]*?)\s*(?:,|$)', re.DOTALL)


class Kind(Enum):
    TEXT = "text"
    NUMBER = "number"
    TIME = "time"
    DURATION = "duration"
    METADATA = "metadata"


@dataclass(frozen=True)
class Column:
    """`name` is what `parse` reads. `key` is the metadata key of a column that shows one value."""

    name: str
    label: str
    kind: Kind = Kind.TEXT
    key: str | None = None

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class _Source:
    label: str
    kind: Kind
    read: Callable[[Run], Any]


def metadata_of(run: Run) -> Mapping[str, object] | None:
    """The metadata, or None if it is not known.

    If `raw` was not read, the pairs for searching are used: their keys and values are cut after 512 characters.
    """
    if run.metadata_state != MetadataState.KNOWN:
        return None
    if "raw" not in run.__dict__:
        return {pair.key: pair.value for pair in sorted(run.pairs.all(), key=lambda pair: pair.pk)}
    return run.metadata


_SOURCES: dict[str, _Source] = {
    "id": _Source("Run", Kind.TEXT, lambda run: run.upstream_id),
    "connection": _Source("Connection", Kind.TEXT, lambda run: run.connection),
    "thread": _Source("Thread", Kind.TEXT, lambda run: run.thread.upstream_id),
    "assistant": _Source("Assistant", Kind.TEXT, lambda run: run.assistant_id or None),
    "status": _Source("Status", Kind.TEXT, lambda run: run.status or None),
    "model": _Source("Model", Kind.TEXT, lambda run: run.model or None),
    "error": _Source("Error", Kind.TEXT, lambda run: run.error_code or None),
    "created": _Source("Created", Kind.TIME, lambda run: run.time("created_at")),
    "started": _Source("Started", Kind.TIME, lambda run: run.started_at),
    "completed": _Source("Completed", Kind.TIME, lambda run: run.completed_at),
    "failed": _Source("Failed", Kind.TIME, lambda run: run.failed_at),
    "cancelled": _Source("Cancelled", Kind.TIME, lambda run: run.cancelled_at),
    "expires": _Source("Expires", Kind.TIME, lambda run: run.expires_at),
    "missing": _Source("Missing since", Kind.TIME, lambda run: run.missing_since),
    "duration": _Source("Duration", Kind.DURATION, lambda run: run.duration),
    "tokens": _Source("Tokens", Kind.NUMBER, lambda run: run.total_tokens),
    "prompt_tokens": _Source("Prompt tokens", Kind.NUMBER, lambda run: run.prompt_tokens),
    "completion_tokens": _Source("Completion tokens", Kind.NUMBER, lambda run: run.completion_tokens),
    METADATA: _Source("Metadata", Kind.METADATA, metadata_of),
}
_BY_NAME = {name: Column(name, source.label, source.kind) for name, source in _SOURCES.items()}

ALL = tuple(_BY_NAME.values())
DEFAULT = tuple(_BY_NAME[name] for name in ("id", "status", "created", "duration", "tokens", "model", METADATA))


def of_key(key: str) -> Column:
    """The column that shows the value of one metadata key."""
    return Column(str(Field(METADATA, key)), key, key=key)


def parse(text: str) -> list[Column]:
    """The columns in a list of names, each once. Raises InvalidColumns, which names the most similar column."""
    if len(text) > MAX_LENGTH:
        raise InvalidColumns(f"The list of columns has more than {MAX_LENGTH:,} characters. Name fewer columns.")
    if not text.strip():
        raise InvalidColumns(f"The list of columns is empty. Name some, such as id,status,{METADATA}.team, or all.")
    columns: dict[Column, None] = {}
    position = 0
    while position < len(text):
        part = _PART.match(text, position)
        if part is None:
            raise InvalidColumns(
                f"At character {position + 1}: this quote is not understood. A key with commas or quotes is written"
                rf' as in {METADATA}."cost, \"net\"", followed by a comma or the end.'
            )
        columns |= dict.fromkeys(_named(part[1]))
        position = part.end()
    if len(columns) > MAX_COLUMNS:
        raise InvalidColumns(f"The list has {len(columns):,} columns, and can have at most {MAX_COLUMNS}.")
    return list(columns)


def _named(name: str) -> tuple[Column, ...]:
    if name == EVERY:
        return ALL
    if name in _BY_NAME:
        return (_BY_NAME[name],)
    before, dot, key = name.partition(".")
    if before != METADATA or not dot:
        raise InvalidColumns(
            f"There is no column {name!r}. Did you mean {_nearest(name)}? The columns are {', '.join(_BY_NAME)} and"
            f" {METADATA}.KEY."
        )
    if key.startswith('"'):
        key = re.sub(r'\\(["\\])', r"\1", key[1:-1])
    if not 0 < len(key) <= _MAX_KEY_LENGTH:
        raise InvalidColumns(
            f"A key has 1 to {_MAX_KEY_LENGTH} characters; write {METADATA}.KEY, such as metadata.team."
        )
    return (of_key(key),)


def _nearest(name: str) -> str:
    before, _, key = name.partition(".")
    if key:
        return f"{METADATA}.{key}"
    nearest = get_close_matches(before.lower(), _BY_NAME, n=1, cutoff=0.7)
    return nearest[0] if nearest else f"{METADATA}.{name}"


def value(column: Column, run: Run) -> Value:
    """What a column shows for a run: text, a number, a time, a duration or a map; None if there is nothing to show.

    Metadata values that are not text are shown as JSON. For `thread`, select the thread with the run.
    """
    if column.key is None:
        found: Value = _SOURCES[column.name].read(run)
        return found
    pair = (metadata_of(run) or {}).get(column.key)
    return pair if pair is None or isinstance(pair, str) else lenient_json.dumps(pair)
