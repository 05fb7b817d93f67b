"""Imports the runs of a service that is gone, from a file into an archive.

An import has no state of its own: it compares each run with the mirror, and writes only new and changed ones. So an
interrupted import continues when it is started again, and a repeated import changes nothing.
"""

import logging
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import batched
from typing import BinaryIO

from runsadmin import conf, lenient_json
from runsadmin.db_errors import is_database_failure
from runsadmin.errors import InvalidFile, UnknownConnection
from runsadmin.models import Thread
from runsadmin.services import clock, run_lines, runs
from runsadmin.services.gateway import TimedResponse
from runsadmin.services.runs import Difference, Stored
from runsadmin.upstream.records import Response, RunRecord, Unreadable

logger = logging.getLogger(__name__)

BATCH = 500
# A line, or a file that is a single JSON value, is read into memory.
MAX_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Item:
    """A JSON value in a file. `where` says at which line, or as which item of a list."""

    where: str
    value: object


@dataclass(frozen=True)
class BadItem:
    where: str
    why: str


@dataclass(frozen=True)
class Imported:
    """How many runs were read, and how many of them are new or changed. `bad` has the items that were not imported.

    The sum of two results has the number of these items, but not the items.
    """

    read: int = 0
    created: int = 0
    updated: int = 0
    bad: tuple[BadItem, ...] = ()
    bad_count: int = 0

    def __add__(self, other: "Imported") -> "Imported":
        return Imported(
            self.read + other.read, self.created + other.created, self.updated + other.updated,
            bad_count=self.bad_count + other.bad_count,
        )  # fmt: skip


def target(alias: str | None) -> conf.Connection:
    """The archive with this alias, by default the only one. Raises UnknownConnection."""
    archives = conf.archives()
    how = "An archive is a connection with RUNSADMIN_UPSTREAM_ALIAS_KIND=archive, such as RUNSADMIN_UPSTREAM_OLD_KIND."
    if alias is None:
        if len(archives) != 1:
            known = f"Name one of: {', '.join(archives)}." if archives else f"There is no archive. {how}"
            raise UnknownConnection(known)
        return conf.connection(archives[0])
    found = conf.connection(alias)
    if not found.is_archive:
        raise UnknownConnection(f"The connection {alias!r} has an upstream: its runs come from syncs. {how}")
    return found


# --- Reading

_BLANK = b"\xef\xbb\xbf \t\r\n"


class Reader:
    """Reads the values in a file: one on each line, or a whole file that is a single array or list response.

    A line may also be an array or a list response. `position` is the number of bytes read so far.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._line = self.position = 0

    def __iter__(self) -> Iterator[Item | BadItem]:
        """Raises InvalidFile."""
        first = self._next_line()
        if not first or _parsed(first) is not None:
            yield from self._lines(first)
            return
        second = self._next_line()
        if _begins_value(first, second):
            yield from _items("", self._whole(first + second))
        else:
            yield BadItem("line 1", _NOT_JSON)
            yield from self._lines(second)

    def _lines(self, line: bytes) -> Iterator[Item | BadItem]:
        while line:
            where = f"line {self._line:,}"
            value = _parsed(line)
            yield from [BadItem(where, _NOT_JSON)] if value is None else _items(where, value)
            line = self._next_line()

    def _next_line(self) -> bytes:
        """The next line that is not blank. Empty at the end of the file."""
        while line := self._read(self._file.readline(MAX_BYTES + 1)):
            self._line += 1
            if line.strip(_BLANK):
                return line
        return b""

    def _whole(self, begin: bytes) -> object:
        value = _parsed(begin + self._read(self._file.read(MAX_BYTES + 1)))
        if value is None:
            raise InvalidFile("The file is neither JSON lines nor a JSON value. It may be incomplete: check its end.")
        return value

    def _read(self, read: bytes) -> bytes:
        self.position += len(read)
        if len(read) > MAX_BYTES:
            raise InvalidFile(
                f"A JSON value has more than {MAX_BYTES // 1024**2} MB. Write each run on a line of its own:"
                " jq -c '.[]' FILE if it is an array, jq -c '.data[]' FILE if it is a list response."
            )
        return read


_NOT_JSON = "This is not JSON."


def _parsed(text: bytes) -> object:
    """None if the text is not JSON."""
    try:
        value: object = lenient_json.read(text.strip(_BLANK))
    except ValueError:
        return None
    return value


def _begins_value(first: bytes, second: bytes) -> bool:
    """Whether a value begins in the first line of a file and ends in a later one."""
    begin = first.strip(_BLANK)
    return begin in (b"[", b"{") or (begin.startswith((b"[", b"{")) and bool(second) and _parsed(second) is None)


def _items(where: str, value: object) -> Iterator[Item]:
    """The runs in a value: itself, or the items of an array or a list response."""
    if isinstance(value, dict) and isinstance(value.get("data"), list) and "thread_id" not in value:
        value = value["data"]
    if not isinstance(value, list):
        yield Item(where or "line 1", value)
        return
    for number, item in enumerate(value, start=1):
        yield Item(f"{where}, item {number:,}" if where else f"item {number:,}", item)


# --- Writing


def import_runs(*, connection: str, items: Iterable[Item | BadItem]) -> Iterator[Imported]:
    """Imports runs into an archive in batches. Yields the result of each batch after it is committed.

    If a run occurs several times, the last one counts. Raises UnknownConnection before anything is written.
    """
    alias = target(connection).alias
    for some in batched(items, BATCH, strict=False):
        yield _import_batch(alias, some)


def _import_batch(alias: str, items: Iterable[Item | BadItem]) -> Imported:
    bad: list[BadItem] = []
    read: dict[str, tuple[Item, str, RunRecord]] = {}
    count = 0
    for item in items:
        if isinstance(item, BadItem):
            bad.append(item)
            continue
        try:
            thread_id, record = run_lines.read(item.value)
        except Unreadable as error:
            bad.append(BadItem(item.where, str(error)))
        except Exception as error:
            logger.exception("The run at %s could not be read.", item.where)
            why = f"The run could not be read because of an internal error ({type(error).__name__}); see the log."
            bad.append(BadItem(item.where, why))
        else:
            count += 1
            read[record.upstream_id] = item, thread_id, record
    threads = _threads(alias, {thread_id for _, thread_id, _ in read.values()})
    now = clock.now()
    difference = runs.compare(
        [(threads[id], TimedResponse(Response(record, 200, "", 0.0), now, now)) for _, id, record in read.values()],
        of_list=True,
    )
    for upstream_id in difference.elsewhere:
        bad.append(BadItem(read[upstream_id][0].where, f"The run {upstream_id!r} is already in another thread."))
        count -= 1
    stored, refused = _store(difference)
    bad += [BadItem(read[upstream_id][0].where, why) for upstream_id, why in refused.items()]
    return Imported(count - len(refused), stored.created, stored.updated, tuple(bad), len(bad))


def _store(difference: Difference) -> tuple[Stored, dict[str, str]]:
    """Stores the runs. If the database refuses some, stores the others, and returns why each of these was refused."""
    try:
        return difference.write(), {}
    except Exception as error:
        if is_database_failure(error):
            raise
    stored, refused = Stored(), {}
    for single in difference.singles():
        try:
            stored += single.write()
        except Exception as error:
            if is_database_failure(error):
                raise
            (upstream_id,) = single.observations
            message = str(error).strip().partition("\n")[0]
            refused[upstream_id] = f"It could not be stored. {type(error).__name__}: {message}"
    return stored, refused


def _threads(alias: str, ids: Collection[str]) -> dict[str, Thread]:
    """The threads with these ids. New ones are not tracked, since there is no upstream to sync them with."""
    rows = Thread.objects.filter(connection=alias, upstream_id__in=ids)
    found = {thread.upstream_id: thread for thread in rows}
    if new := [Thread(connection=alias, upstream_id=id, tracked=False) for id in ids if id not in found]:
        Thread.objects.bulk_create(new, ignore_conflicts=True)
        found = {thread.upstream_id: thread for thread in rows.all()}
    return found
