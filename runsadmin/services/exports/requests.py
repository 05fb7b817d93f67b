"""What to export, checked before anything is recorded or read."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.contrib.auth.models import User

from runsadmin import search
from runsadmin.models import EditSource, Export, ExportFormat
from runsadmin.models.bulk_edit import pack_keys, unpack_keys
from runsadmin.services import permissions, run_columns
from runsadmin.services.exports import formats
from runsadmin.services.exports.formats import Writer
from runsadmin.services.exports.reading import Selection
from runsadmin.services.permissions import Action
from runsadmin.services.run_columns import Column
from runsadmin.services.run_search import RunSearch


@dataclass(frozen=True)
class NewExport:
    """The runs that match `search` or, if `keys` are given, the runs with these primary keys.

    Without `columns`, all of them. `source` says where the export was requested.
    """

    actor: User
    source: EditSource
    format: ExportFormat
    search: RunSearch
    keys: Sequence[int] | None = None
    columns: Sequence[Column] | None = None
    request_id: str = ""

    def row(self) -> Export:
        """The unsaved row. Raises NotAllowed, FormatUnavailable or InvalidColumns."""
        permissions.require(self.actor, Action.VIEW_RUNS)
        columns = formats.check(self.format, self.columns)
        return Export(
            actor=self.actor, source=self.source, format=self.format, columns=",".join(map(str, columns)),
            query=str(self.search.node or ""), tz=str(self.search.tz), request_id=self.request_id,
            selected=None if self.keys is None else pack_keys(self.keys),
        )  # fmt: skip


def selection_of(export: Export) -> Selection:
    """Times such as `-7d` count from when the export was requested. Raises InvalidSearch."""
    found = RunSearch.parse(export.query, search.time_zone(export.tz), export.created_at)
    return Selection(found, None if export.selected is None else unpack_keys(export.selected))


def writer_of(export: Export) -> Writer:
    """Raises FormatUnavailable."""
    columns = run_columns.parse(export.columns) if export.columns else None
    return formats.writer(ExportFormat(export.format), formats.check(ExportFormat(export.format), columns))
