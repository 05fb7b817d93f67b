"""Sends exports to clients, at most SLOTS at the same time: each occupies a thread of a web process."""

import datetime as dt
import logging
import time
import uuid
from collections.abc import Generator, Iterator
from itertools import chain
from typing import Any

from django.db import IntegrityError, transaction

from runsadmin.errors import ExportStopped, TooManyExports
from runsadmin.models import Export, ExportFormat, ExportStatus
from runsadmin.models.export import SLOTS
from runsadmin.services import clock
from runsadmin.services.exports import formats, reading
from runsadmin.services.exports.formats import Writer
from runsadmin.services.exports.manifest import Tally, manifest_of
from runsadmin.services.exports.reading import Selection
from runsadmin.services.exports.requests import NewExport, writer_of
from runsadmin.services.exports.writing import parts

logger = logging.getLogger(__name__)

# A process that died, or whose client reads nothing for this long, loses its slot.
LEASE = dt.timedelta(seconds=60)
# In seconds.
RENEW_EVERY = 5.0


def send(new: NewExport) -> "Sending":
    """Reads the first runs, and records the export.

    If this raises NotAllowed, FormatUnavailable, InvalidColumns, InvalidSearch or TooManyExports, nothing is recorded.
    """
    row = new.row()
    _release_dead()
    if Export.objects.exclude(slot=None).count() >= SLOTS:
        raise _too_many()
    writer = writer_of(row)
    chunks = reading.chunks(Selection(new.search, new.keys), writer.rows())
    first = next(chunks, [])
    return Sending(_take_slot(row), writer, chain([first], chunks))


def _take_slot(row: Export) -> Export:
    """Saves the row with a free slot. The unique column lets only one process have each."""
    row.status, row.claim_token = ExportStatus.RUNNING, uuid.uuid4()
    row.started_at = now = clock.now()
    row.claimed_until = now + LEASE
    for slot in range(1, SLOTS + 1):
        row.slot = slot
        try:
            with transaction.atomic():
                row.save(force_insert=True)
        except IntegrityError:
            continue
        return row
    raise _too_many()


def _release_dead() -> None:
    expired = Export.objects.free(clock.now()).exclude(slot=None)
    detail = "The web process that sent it died, or its client stopped reading."
    expired.transition_to(ExportStatus.FAILED, detail=detail, slot=None, claim_token=None, finished_at=clock.now())


def _too_many() -> TooManyExports:
    return TooManyExports(
        f"{SLOTS} exports are being sent, which is the limit. Wait until one has ended, or request a file, which a"
        " worker writes in the background."
    )


class Sending:
    """The bytes of an export. Closing it before its end cancels the export."""

    def __init__(self, export: Export, writer: Writer, chunks: Iterator[list[Any]]) -> None:
        self.export = export
        self._own = Export.objects.filter(pk=export.pk, claim_token=export.claim_token)
        self._tally, self._size = Tally(), 0
        self._renew_at = time.monotonic() + RENEW_EVERY
        self._has_ended = False
        self._parts = self._read(writer, chunks)

    @property
    def content_type(self) -> str:
        return formats.CONTENT_TYPES[ExportFormat(self.export.format)]

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            part = next(self._parts)
        except StopIteration:
            raise
        except Exception as error:
            logger.warning("%s ended early: %s", self.export, error)
            self._end(ExportStatus.FAILED, f"It ended early: {error}")
            raise
        self._size += len(part)
        return part

    def close(self) -> None:
        """Must be called. If the file is not complete by then, the client has closed the connection."""
        self._parts.close()
        self._end(ExportStatus.CANCELLED, "The client closed the connection before the end.")

    def _read(self, writer: Writer, chunks: Iterator[list[Any]]) -> Generator[bytes]:
        yield from parts(writer, chunks, self._tally, self._keep_slot)
        self._end(ExportStatus.COMPLETED, "", manifest=manifest_of(self.export, self._tally))

    def _keep_slot(self) -> None:
        if time.monotonic() >= self._renew_at:
            self._renew_at = time.monotonic() + RENEW_EVERY
            self.keep_slot()

    def keep_slot(self) -> None:
        """Raises ExportStopped if the export was cancelled or has lost its slot."""
        until = clock.now() + LEASE
        if not self._own.filter(status=ExportStatus.RUNNING).update(claimed_until=until, rows=self._tally.rows):
            raise ExportStopped("it was cancelled, or its client had stopped reading.")

    def _end(self, status: ExportStatus, detail: str, **values: Any) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        self._own.transition_to(
            status, detail=detail, rows=self._tally.rows, size=self._size, slot=None, claim_token=None,
            finished_at=clock.now(), **values,
        )  # fmt: skip
