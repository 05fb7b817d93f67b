"""Exports that workers write to files, which can be downloaded for some days.

The rows are the truth: a recurring task finds exports that wait, and those whose worker died, which start over. Web
processes and workers on several machines need a common folder.
"""

import datetime as dt
import logging
import re
import time
import uuid
from functools import partial
from pathlib import Path
from threading import Event
from typing import BinaryIO

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, Q

from runsadmin import conf, private_files
from runsadmin.db_errors import is_database_failure
from runsadmin.errors import ExportStopped, FileMissing, InvalidTransition, RunsAdminError
from runsadmin.models import Export, ExportStatus
from runsadmin.models.export import UNFINISHED, ExportQuerySet
from runsadmin.services import clock, permissions
from runsadmin.services.exports import reading
from runsadmin.services.exports.manifest import Tally, manifest_of
from runsadmin.services.exports.reading import LONGEST_CHUNK
from runsadmin.services.exports.requests import NewExport, selection_of, writer_of
from runsadmin.services.exports.writing import parts

logger = logging.getLogger(__name__)

LEASE = dt.timedelta(seconds=60)
# A task for a waiting export has this long to start before another one is enqueued.
HEAD_START = dt.timedelta(seconds=10)
# In seconds.
RENEW_EVERY = 5.0
MAX_ATTEMPTS = 3
_PART = ".part"


def request(new: NewExport) -> Export:
    """Queues an export. Raises NotAllowed, FormatUnavailable or InvalidColumns."""
    row = new.row()
    row.is_file = True
    row.save()
    return row


def visible_to(actor: User) -> ExportQuerySet:
    """The actor's own exports; those of all accounts for a superuser."""
    rows = Export.objects.select_related("actor").defer("selected")
    rows = rows.annotate(is_of_ticked=Q(selected__isnull=False))  # type: ignore[no-redef]
    return rows if actor.is_superuser else rows.filter(actor=actor)


def cancel(*, export: Export, actor: User) -> Export:
    """Stops an export. Raises NotAllowed or InvalidTransition."""
    permissions.require(actor, permissions.Action.VIEW_RUNS)
    detail = f"{actor.get_username()} cancelled it."
    return Export.objects.move(
        export, ExportStatus.CANCELLED, "Only an export that has not ended can be cancelled",
        detail=detail, finished_at=clock.now(), slot=None,
    )  # fmt: skip


def open_file(*, export: Export, actor: User) -> BinaryIO:
    """The file of an export. Raises NotAllowed, InvalidTransition or FileMissing."""
    permissions.require(actor, permissions.Action.VIEW_RUNS)
    if not export.has_file:
        state = export.get_status_display().lower()
        raise InvalidTransition(f"Only the file of a completed export can be downloaded; this one is {state}.")
    path = _folder() / export.file
    if not path.is_file():
        raise FileMissing(
            "The file of this export is not on this machine. All web processes and workers must have the same"
            " RUNSADMIN_EXPORT_FOLDER. Export again."
        )
    return path.open("rb")


# What names of files begin with. Earlier versions had no time in them.
_NAME = re.compile(r"(?P<pk>\d{1,18})-")


def _prefix(export: Export) -> str:
    """What the names of an export's files begin with. Its time makes them differ from those of other databases."""
    return f"{export.pk}-{export.created_at:%Y%m%dT%H%M%S%f}-"


def _folder() -> Path:
    folder = Path(conf.export_folder())
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


# --- In the background


def claim_waiting() -> list[int]:
    """The exports that wait for a worker. Returns each at most once per HEAD_START, so that tasks do not pile up."""
    now = clock.now()
    # Without a token, `claimed_until` says until when another task is expected to start the export.
    waiting = Export.objects.free(now).filter(
        Q(claimed_until=None) | Q(claimed_until__lt=now), is_file=True, status__in=UNFINISHED
    )
    return [
        pk
        for pk in waiting.order_by("pk").values_list("pk", flat=True)
        if waiting.filter(pk=pk).update(claimed_until=now + HEAD_START, claim_token=None)
    ]


def write(export: Export, *, stopping: Event | None = None) -> Export:
    """Writes the file of a waiting export. Does nothing while another process works on it."""
    token, now = uuid.uuid4(), clock.now()
    free = Export.objects.free(now).filter(pk=export.pk, is_file=True)
    free.filter(status=ExportStatus.QUEUED).transition_to(ExportStatus.RUNNING, started_at=now)
    claimed = {"claim_token": token, "claimed_until": now + LEASE, "attempts": F("attempts") + 1}
    if free.filter(status=ExportStatus.RUNNING).update(**claimed):
        _Writing(Export.objects.select_related("actor").get(pk=export.pk), stopping).run()
    return Export.objects.get(pk=export.pk)


class _Writing:
    def __init__(self, export: Export, stopping: Event | None) -> None:
        self.export = export
        self._own = Export.objects.filter(pk=export.pk, claim_token=export.claim_token)
        self._stopping = stopping
        self._tally = Tally()
        self._renew_at = time.monotonic() + RENEW_EVERY

    def run(self) -> None:
        """Ends with an outcome. If the database fails or this process has to stop, another attempt follows."""
        name = f"{_prefix(self.export)}{self.export.claim_token}.{self.export.format}"
        released: dict[str, object] = {"claim_token": None, "claimed_until": None}
        try:
            if self.export.attempts > MAX_ATTEMPTS:
                self._fail(f"{MAX_ATTEMPTS} workers died while they wrote its file.")
                return
            size = self._write_file(_folder() / name)
            now = clock.now()
            done = self._own.transition_to(
                ExportStatus.COMPLETED, file=name, size=size, rows=self._tally.rows, finished_at=now, detail="",
                expires_at=now + conf.export_lifetime(), manifest=manifest_of(self.export, self._tally),
            )  # fmt: skip
            if not done:  # It was cancelled just now.
                (_folder() / name).unlink(missing_ok=True)
        except ExportStopped:
            if self._stopping and self._stopping.is_set():
                released["attempts"] = F("attempts") - 1
        except (OSError, RunsAdminError) as error:
            self._fail(f"Its file could not be written: {error}")
        except Exception as error:
            if is_database_failure(error):
                raise
            logger.exception("%s failed with an internal error.", self.export)
            where = f"in or after the chunk that ends with run {self._tally.rows:,}"
            self._fail(f"It failed with an internal error ({type(error).__name__}) {where}; see the log.")
        finally:
            self._own.update(**released)

    def _write_file(self, path: Path) -> int:
        """Returns its size. Until the file is complete, it has another name."""
        unfinished = path.with_name(path.name + _PART)
        try:
            writer = writer_of(self.export)
            chunks = reading.chunks(selection_of(self.export), writer.rows(), seconds=LONGEST_CHUNK)
            private_files.create(unfinished)
            with unfinished.open("wb") as file:
                for part in parts(writer, chunks, self._tally, self._keep_claim):
                    file.write(part)
                size = file.tell()
            unfinished.rename(path)
        finally:
            unfinished.unlink(missing_ok=True)
        return size

    def _keep_claim(self) -> None:
        """Raises ExportStopped."""
        if self._stopping and self._stopping.is_set():
            raise ExportStopped("This worker stops.")
        if time.monotonic() < self._renew_at:
            return
        self._renew_at = time.monotonic() + RENEW_EVERY
        claim = {"claimed_until": clock.now() + LEASE, "rows": self._tally.rows}
        if not self._own.filter(status=ExportStatus.RUNNING).update(**claim):
            raise ExportStopped("It was cancelled, or its claim has expired.")

    def _fail(self, detail: str) -> None:
        self._own.transition_to(ExportStatus.FAILED, detail=detail, finished_at=clock.now())


# --- Deleting files


def delete_expired() -> int:
    """Deletes the files whose time has come, and what dead workers have left. Returns how many exports expired."""
    now = clock.now()
    count = _expire(Export.objects.filter(expires_at__lt=now), "Its file has expired and was deleted. Export again.")
    found = [(int(name["pk"]), path) for path in _folder().iterdir() if (name := _NAME.match(path.name))]
    exports = Export.objects.only("created_at", "status", "file").in_bulk([pk for pk, _ in found])
    for pk, path in found:
        export = exports.get(pk)
        # Other files belong to another database, such as one that a backup was restored into.
        if export is None or not (path.name == export.file or path.name.startswith(_prefix(export))):
            continue
        private_files.protect(path)  # Earlier versions wrote files that other accounts could read.
        is_kept = export.status == ExportStatus.COMPLETED and path.name == export.file
        # A file that was written just now may belong to an export that is about to be completed.
        if not is_kept and path.stat().st_mtime < (now - LEASE * 2).timestamp():
            path.unlink(missing_ok=True)
    return count


def delete_all(detail: str) -> int:
    """Deletes the files of all exports; those that are being written start over. Returns how many were deleted.

    In a transaction, the files are deleted after its end. If the process dies before that, `delete_expired` does it.
    """
    Export.objects.filter(is_file=True, status=ExportStatus.RUNNING).update(claim_token=None, claimed_until=None)
    return _expire(Export.objects.all(), detail)


def _expire(exports: ExportQuerySet, detail: str) -> int:
    count = 0
    for export in exports.filter(is_file=True, status=ExportStatus.COMPLETED):
        if Export.objects.filter(pk=export.pk).transition_to(ExportStatus.EXPIRED, detail=detail):
            transaction.on_commit(partial((_folder() / export.file).unlink, missing_ok=True))
            count += 1
    return count
