"""The formats of exports. A writer turns chunks of runs into the bytes of a file, and keeps no more than it must."""

import datetime as dt
import io
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Protocol

from django.db.models import BinaryField, ExpressionWrapper, F, QuerySet

from runsadmin.errors import FormatUnavailable, InvalidColumns
from runsadmin.models import ExportFormat, Run
from runsadmin.models.stored_json import unpack_each
from runsadmin.services import run_columns, run_lines
from runsadmin.services.exports import cells
from runsadmin.services.run_columns import Column, Kind
from runsadmin.text import printable

CONTENT_TYPES: dict[str, str] = {
    ExportFormat.CSV: "text/csv; charset=utf-8",
    ExportFormat.JSONL: "application/jsonl",
    ExportFormat.PARQUET: "application/vnd.apache.parquet",
}
# What all writers read of each run: the keys of its page, and what the manifest counts.
_COUNTED = ("pk", "created_at", "missing_since", "needs_refresh_since", "metadata_state")


class Writer(Protocol):
    def rows(self) -> QuerySet[Any]:
        """All runs, with what `add` needs and the columns _COUNTED."""

    def begin(self) -> bytes: ...

    def add(self, runs: Sequence[Any]) -> bytes: ...

    def end(self) -> bytes: ...


def check(chosen: ExportFormat, columns: Sequence[Column] | None) -> tuple[Column, ...]:
    """The columns of a file, which are all by default. Raises FormatUnavailable or InvalidColumns."""
    if chosen == ExportFormat.PARQUET and find_spec("pyarrow") is None:
        raise FormatUnavailable(
            "Parquet needs the package pyarrow, which is not installed. Run `pip install pyarrow` in the environment of"
            " runsadmin, or choose another format: csv, jsonl."
        )
    if chosen == ExportFormat.JSONL:
        if columns is not None:
            raise InvalidColumns("JSON Lines contain whole runs, so no columns can be chosen. Choose csv or parquet.")
        return ()
    return run_columns.ALL if columns is None else tuple(columns)


def writer(chosen: ExportFormat, columns: Sequence[Column]) -> Writer:
    match chosen:
        case ExportFormat.CSV:
            return _CSV(columns)
        case ExportFormat.PARQUET:
            return _Parquet(columns)
    return _JSONLines()


class _JSONLines:
    """Each line has a run as upstream sent it (`run_lines`)."""

    def rows(self) -> QuerySet[Any]:
        # The column as it is stored, so that `raw` is not decoded only to be encoded again.
        stored = ExpressionWrapper(F("raw"), BinaryField())
        columns = (*_COUNTED, "stored", "thread__upstream_id")
        return Run.objects.annotate(stored=stored).values_list(*columns, named=True)

    def begin(self) -> bytes:
        return b""

    def add(self, runs: Sequence[Any]) -> bytes:
        return b"".join(
            run_lines.write(raw, thread_id=run.thread__upstream_id, metadata_state=run.metadata_state)
            for run, raw in zip(runs, unpack_each(run.stored for run in runs), strict=True)
        )

    def end(self) -> bytes:
        return b""


# Only the fields that a column can show: reading the others takes a quarter of the time.
_SHOWN = (
    *_COUNTED, "upstream_id", "connection", "thread__upstream_id", "assistant_id", "status", "model", "error_code",
    "created_at_is_known", "started_at", "completed_at", "failed_at", "cancelled_at", "expires_at", "duration",
    "total_tokens", "prompt_tokens", "completion_tokens",
)  # fmt: skip


def _runs(columns: Sequence[Column]) -> QuerySet[Any]:
    needs_metadata = any(column.key is not None or column.kind is Kind.METADATA for column in columns)
    return Run.objects.select_related("thread").only(*_SHOWN, *(["raw"] if needs_metadata else []))


class _CSV:
    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns

    def rows(self) -> QuerySet[Any]:
        return _runs(self._columns)

    def begin(self) -> bytes:
        return cells.lines([[column.name for column in self._columns]]).encode()

    def add(self, runs: Sequence[Any]) -> bytes:
        return cells.lines([run_columns.value(column, run) for column in self._columns] for run in runs).encode()

    def end(self) -> bytes:
        return b""


class _Parquet:
    """Types: text, 64-bit integers, times in UTC, durations as seconds, and metadata as a map of texts."""

    ROW_GROUP = 10_000

    def __init__(self, columns: Sequence[Column]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {
            Kind.TEXT: pa.string(),
            Kind.NUMBER: pa.int64(),
            Kind.TIME: pa.timestamp("us", tz="UTC"),
            Kind.DURATION: pa.float64(),
            Kind.METADATA: pa.map_(pa.string(), pa.string()),
        }
        self._pa, self._columns = pa, columns
        self._schema = pa.schema([(column.name, types[column.kind]) for column in columns])
        self._file = io.BytesIO()
        self._written = 0
        self._rows: list[list[Any]] = []
        self._writer = pq.ParquetWriter(_Sink(self._file), self._schema, compression="zstd")

    def rows(self) -> QuerySet[Any]:
        return _runs(self._columns)

    def begin(self) -> bytes:
        return self._drain()

    def add(self, runs: Sequence[Any]) -> bytes:
        self._rows += [[_arrow(run_columns.value(column, run)) for column in self._columns] for run in runs]
        if len(self._rows) >= self.ROW_GROUP:
            self._write_group()
        return self._drain()

    def end(self) -> bytes:
        self._write_group()
        self._writer.close()
        return self._drain()

    def _write_group(self) -> None:
        if self._rows:
            values = zip(*self._rows, strict=True)
            arrays = [self._pa.array(each, type=field.type) for each, field in zip(values, self._schema, strict=True)]
            self._writer.write_table(self._pa.Table.from_arrays(arrays, schema=self._schema))
            self._rows = []

    def _drain(self) -> bytes:
        written = self._file.getvalue()
        self._file.seek(0)
        self._file.truncate()
        return written


class _Sink(io.RawIOBase):
    """A file for pyarrow, which writes to it and asks for its position. Holds only what was not drained yet."""

    def __init__(self, file: io.BytesIO) -> None:
        self._file, self._position = file, 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        count = self._file.write(data)
        self._position += count
        return count

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._position


def _arrow(value: run_columns.Value) -> Any:
    match value:
        case str():
            return printable(value)
        case dt.timedelta():
            return value.total_seconds()
        case Mapping():
            return [(printable(key), printable(each)) for key, each in value.items()]
    return value
