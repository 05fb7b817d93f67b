"""Responses that are files of runs."""

from collections.abc import Mapping
from typing import Any

from django.http import FileResponse, StreamingHttpResponse
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiResponse

from runsadmin.models import Export, ExportFormat
from runsadmin.services import exports
from runsadmin.services.exports import CONTENT_TYPES, NewExport

_EXAMPLES = {
    "csv": '"id","status"\r\n"run_abc123","failed"\r\n',
    "jsonl": '{"id":"run_abc123", …}\n',
    "parquet": "PAR1…",
}
# The responses with a file, for the schema, by status and content type.
EXPORTED: dict[Any, Any] = {
    (200, content_type.partition(";")[0]): OpenApiResponse(
        OpenApiTypes.BINARY, "The file.", [OpenApiExample("Example", _EXAMPLES[name])]
    )
    for name, content_type in CONTENT_TYPES.items()
}


def new_export(query: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of NewExport that a query or a body has. Call it after `search_of`."""
    return {"format": ExportFormat(query["format"]), "columns": query.get("columns")}


def send(new: NewExport) -> StreamingHttpResponse:
    """Sends an export while its runs are read.

    The `Link` header has the URL of the export's record, which has the manifest once the export has ended.
    """
    sending = exports.send(new)
    response = file_response(sending.export, sending)
    response.headers["Link"] = f'<{reverse("api:export-detail", args=[sending.export.pk])}>; rel="describedby"'
    return response


def file_response(export: Export, content: Any) -> StreamingHttpResponse:
    content_type, headers = CONTENT_TYPES[export.format], {"Cache-Control": "no-store"}
    if export.has_file:  # The web server sends it by itself, without occupying a thread.
        return FileResponse(
            content, as_attachment=True, filename=export.filename, content_type=content_type, headers=headers
        )
    headers["Content-Disposition"] = f'attachment; filename="{export.filename}"'
    return StreamingHttpResponse(content, content_type=content_type, headers=headers)
