"""The bytes of an export, from its writer and its runs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from runsadmin.models import Export, ExportFormat
from runsadmin.services import clock
from runsadmin.services.exports import formats, reading
from runsadmin.services.exports.formats import Writer
from runsadmin.services.exports.manifest import Tally, manifest_of
from runsadmin.services.exports.reading import LONGEST_CHUNK, Selection
from runsadmin.services.run_columns import Column
from runsadmin.services.run_search import RunSearch


def parts(
    writer: Writer, chunks: Iterable[Sequence[Any]], tally: Tally, before_each: Callable[[], object]
) -> Iterator[bytes]:
    """The parts of the file, none of which is empty. Counts the runs, and calls `before_each` before each chunk."""
    if part := writer.begin():
        yield part
    for runs in chunks:
        before_each()
        tally.add(runs)
        if part := writer.add(runs):
            yield part
    if part := writer.end():
        yield part


class Dump:
    """An export from a shell, which is not recorded: an iterator of bytes. At its end, there is a manifest.

    Raises FormatUnavailable or InvalidColumns. Searches may take long: no page or request waits for them.
    """

    def __init__(self, search: RunSearch, chosen: ExportFormat, columns: Sequence[Column] | None) -> None:
        columns = formats.check(chosen, columns)
        self._writer = formats.writer(chosen, columns)
        self.search = search
        self._export = Export(
            format=chosen, columns=",".join(map(str, columns)), query=str(search.node or ""), tz=str(search.tz),
            started_at=clock.now(),
        )  # fmt: skip
        self.tally = Tally()

    def __iter__(self) -> Iterator[bytes]:
        """Raises InvalidSearch if a chunk takes too long."""
        chunks = reading.chunks(Selection(self.search), self._writer.rows(), seconds=LONGEST_CHUNK)
        return parts(self._writer, chunks, self.tally, lambda: None)

    def manifest(self) -> dict[str, Any]:
        return manifest_of(self._export, self.tally)
