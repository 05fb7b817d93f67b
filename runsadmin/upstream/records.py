"""What calls return: Runs as the server sent them, and pages of Runs.

Parsing is tolerant: a Run is stored as received, and only the fields that we need are validated.
"""

import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from runsadmin import lenient_json, scalars
from runsadmin.ids import RULE, is_id, shown
from runsadmin.metadata import Metadata, MetadataState
from runsadmin.run_format import TIMES, is_api_format
from runsadmin.text import clean

USAGE = ("prompt_tokens", "completion_tokens", "total_tokens")
PAGE_SIZE = 100
# A valid key of 64 characters has at most 256.
MAX_KEY_BYTES = 512


class Unreadable(ValueError):
    """A value that is not what was requested, such as a Run without a valid id or of another thread."""


@dataclass(frozen=True)
class RunRecord:
    """One Run in a response. `raw` is the whole Run as JSON text. `columns` has what the mirror filters and sorts by.

    Properties are computed on demand, since most Runs in a list need few of them.
    """

    response: Mapping[str, Any]
    upstream_id: str
    metadata_state: MetadataState = MetadataState.KNOWN
    # Fields whose values are not valid JSON. They are null in `response`.
    damaged: frozenset[str] = frozenset()

    @classmethod
    def read(cls, response: object, thread_id: str, *, missing_is_empty: bool = False) -> "RunRecord":
        """`thread_id` is the requested thread. Raises Unreadable."""
        if not isinstance(response, Mapping):
            raise Unreadable("An item is not a JSON object, so it is not a Run.")
        upstream_id = response.get("id")
        if not isinstance(upstream_id, str) or not upstream_id:
            raise Unreadable("A Run has no id.")
        if not is_id(upstream_id):
            raise Unreadable(f"The id of this Run, {shown(upstream_id)}, cannot be stored and sent: {RULE}.")
        if (response.get("thread_id") or thread_id) != thread_id:
            raise Unreadable(f"The Run {upstream_id!r} belongs to another thread.")
        if _has_plain_metadata(response):
            return cls(response, upstream_id)
        damaged = response.unreadable if isinstance(response, lenient_json.Damaged) else frozenset()
        response, metadata_state = _with_metadata(response, missing_is_empty=missing_is_empty)
        if not damaged.isdisjoint(("metadata", "metadata_")) or (
            metadata_state == MetadataState.KNOWN and not lenient_json.is_kept_whole(response["metadata"])
        ):
            metadata_state = MetadataState.UNREADABLE
        return cls(response, upstream_id, metadata_state, damaged)

    @property
    def status(self) -> str:
        return _text(self.response.get("status"), 64)

    @cached_property
    def created_at(self) -> dt.datetime | None:
        """None if it cannot be read."""
        return scalars.time(self.response.get("created_at"))

    @cached_property
    def metadata(self) -> Metadata:
        """Empty if it is not known: see `metadata_state`."""
        return Metadata.read(self.response.get("metadata"))

    @property
    def shows_metadata(self) -> bool:
        return self.metadata_state == MetadataState.KNOWN

    @property
    def is_complete(self) -> bool:
        """Whether the response has the whole Run. Some servers respond to a write with only a part of it."""
        return self.shows_metadata and "status" in self.response and "created_at" in self.response

    @property
    def in_api_format(self) -> bool:
        return is_api_format(self.response)

    def is_part_of(self, stored: "RunRecord") -> bool:
        """Whether all of its fields, except metadata, are stored with the same values. Absent fields do not count."""
        shown = (item for item in self.response.items() if item[0] != "metadata")
        return all(name in stored.response and stored.response[name] == value for name, value in shown)

    def completed_by(self, stored: "RunRecord") -> "RunRecord":
        """This record with its absent fields taken from `stored`: absent does not mean empty."""
        if self.is_complete:
            return self
        response = dict(self.response)
        if "status" not in response or "created_at" not in response:
            shown = {name: value for name, value in response.items() if value is not None or name == "metadata"}
            response = {**stored.response, **shown}
        state = self.metadata_state
        if state == MetadataState.NOT_SHOWN:
            response.pop("metadata", None)
            if "metadata" in stored.response:
                response["metadata"] = stored.response["metadata"]
            state = stored.metadata_state
        return RunRecord(response, self.upstream_id, state, self.damaged)

    @property
    def columns(self) -> dict[str, object]:
        """Lacks `created_at` if it cannot be read: the mirror then uses the time at which it first stored the run."""
        created_at = self.created_at
        created = {} if created_at is None else {"created_at": created_at, "created_at_is_known": True}
        response, usage = self.response, _mapping(self.response.get("usage"))
        started_at = scalars.time(response.get("started_at"))
        ends = {name: scalars.time(response.get(name)) for name in ("completed_at", "failed_at", "cancelled_at")}
        return {
            "status": self.status,
            "model": _text(response.get("model"), 256),
            "assistant_id": _text(response.get("assistant_id"), 128),
            "error_code": _text(_mapping(response.get("last_error")).get("code"), 128),
            **created,
            "started_at": started_at,
            "expires_at": scalars.time(response.get("expires_at")),
            **ends,
            "duration": _duration(started_at, next((end for end in ends.values() if end is not None), None)),
            **{name: _count(usage.get(name)) for name in USAGE},
        }

    @property
    def unreadable(self) -> list[str]:
        """The fields that the mirror uses but could not read. Their values are unknown."""
        response, usage = self.response, self.response.get("usage")
        found = [
            name
            for name in TIMES
            if (value := response.get(name)) is not None
            and not (name != "created_at" and value in (0, "", False))  # Some servers send these instead of null.
            and scalars.time(value) is None
        ]
        if isinstance(usage, Mapping):
            found += [f"usage.{name}" for name in USAGE if usage.get(name) is not None and _count(usage[name]) is None]
        elif usage is not None:
            found.append("usage")
        return sorted({*self.damaged, *found}) if self.damaged else found

    def shown(self, name: str) -> str:
        """The raw value of one of the `unreadable` fields, shortened."""
        if name.partition(".")[0] in self.damaged:
            return "not a JSON value, or nested too deeply"
        value = (
            _mapping(self.response.get("usage")).get(name[6:]) if name.startswith("usage.") else self.response.get(name)
        )
        text = lenient_json.dumps(value)
        return text if len(text) <= 60 else f"{text[:60]}…"

    def changes_since(self, was: "RunRecord") -> dict[str, object]:
        """The columns that have changed. After most edits there are none: only the metadata is new."""
        if self._without_metadata == was._without_metadata:
            return {}
        before = was.columns
        return {name: value for name, value in self.columns.items() if name not in before or value != before[name]}

    @property
    def _without_metadata(self) -> str:
        return lenient_json.dumps({**self.response, "metadata": None})

    @cached_property
    def raw(self) -> str:
        return lenient_json.dumps(self.response)

    @property
    def shareable(self) -> list[str]:
        """The parts of `raw` that other runs of the same assistant are likely to have as well, the longest first."""
        assistant, instructions, tools = (
            f'"{name}":{lenient_json.dumps(self.response[name])}' if self.response.get(name) else ""
            for name in ("assistant_id", "instructions", "tools")
        )
        both = f"{instructions},{tools}"
        return sorted((f"{assistant},{both}", both, instructions, tools), key=len, reverse=True)

    @cached_property
    def digest(self) -> str:
        text = lenient_json.dumps(self.response, sort_keys=True)
        # Version 0.1.0 stored 32 characters, of which a migration kept the first half.
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()[:16]


@dataclass(frozen=True)
class Response[T]:
    """The value of a response, the server's own id of the request (`x-request-id`), and when the request was sent."""

    value: T
    http_status: int
    request_id: str
    sent: float  # In time.monotonic().

    def with_value[S](self, value: S) -> "Response[S]":
        """The same response with a different value, such as one run of its page."""
        return Response(value, self.http_status, self.request_id, self.sent)


@dataclass(frozen=True)
class Page:
    """The readable part of one page of a thread's runs.

    `ids` has the ids of all items, including those that are not Runs; `unreadable` has a message for each of these.
    `size` is the number of items. `has_more` and `last_id` are the server's; None and "" if absent.
    """

    records: tuple[RunRecord, ...]
    ids: tuple[str, ...]
    unreadable: tuple[str, ...]
    size: int
    has_more: bool | None = None
    last_id: str = ""

    def before(self, run_id: str) -> "Page":
        """The part before this run, as a page with more to follow."""
        ids = self.ids[: self.ids.index(run_id)]
        records = tuple(record for record in self.records if record.upstream_id in ids)
        return Page(records, ids, self.unreadable, len(ids), has_more=True)


def _has_plain_metadata(response: Mapping[str, Any]) -> bool:
    """Whether this is the normal case: nothing is unreadable, and the metadata is a map of strings."""
    if type(response) is not dict or type(metadata := response.get("metadata")) is not dict:
        return False
    return set(map(type, metadata.values())) <= {str}


def _with_metadata(response: Mapping[str, Any], *, missing_is_empty: bool) -> tuple[Mapping[str, Any], MetadataState]:
    """The response with its metadata under `metadata`, as a map or null, and whether it shows the metadata.

    Some servers name it `metadata_` in lists, and PHP writes an empty map as `[]`.
    """
    if "metadata" not in response and "metadata_" in response:
        response = {"metadata" if name == "metadata_" else name: value for name, value in response.items()}
    if "metadata" not in response:
        if not missing_is_empty:
            return response, MetadataState.NOT_SHOWN
        return {**response, "metadata": {}}, MetadataState.KNOWN
    match response["metadata"]:
        case None | Mapping():
            return response, MetadataState.KNOWN
        case []:
            return {**response, "metadata": {}}, MetadataState.KNOWN
        case _:
            return response, MetadataState.NOT_SHOWN


def indexed_text(value: object, length: int) -> str:
    """A value as text that every database can index: U+0000 and lone surrogates become U+FFFD."""
    return clean(value if isinstance(value, str) else lenient_json.dumps(value))[:length]


def indexed_key(key: str, length: int) -> str:
    """Like `indexed_text`, with at most MAX_KEY_BYTES: PostgreSQL limits the size of a key and its value together."""
    return _indexed_key(key[:length])


# Most runs have the same keys.
@lru_cache(maxsize=1024)
def _indexed_key(key: str) -> str:
    text = clean(key)
    return text if text.isascii() else text.encode()[:MAX_KEY_BYTES].decode(errors="ignore")


def _text(value: object, length: int) -> str:
    return "" if value is None else indexed_text(value, length)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _duration(started_at: dt.datetime | None, ended_at: dt.datetime | None) -> dt.timedelta | None:
    """The time from start to end. None while either is missing."""
    if started_at is None or ended_at is None or ended_at < started_at:
        return None
    return ended_at - started_at


def _count(value: object) -> int | None:
    """A whole number, even if sent as `12.0` or as text. None for anything else."""
    if type(value) is int and 0 <= value < 2**63:  # As documented.
        return value
    if value is None:
        return None
    number = scalars.number(value)
    if number is None or not 0 <= number < 2**63 or number != int(number):
        return None
    return int(number)
