"""An archive with a few runs, for tests."""

import io
import json
from typing import Any

from runsadmin.models import Run
from runsadmin.services import imports
from tests.conftest import Connect
from tests.sandbox_client import make_run

ALIAS = "old"


def add_archive(connect: Connect, alias: str = ALIAS) -> str:
    connect(alias, KIND="archive", URL="", API_KEY="")
    return alias


def lines(*runs: object) -> bytes:
    """The runs as the lines of a file. Bytes become a line unchanged."""
    return b"".join((run if isinstance(run, bytes) else json.dumps(run).encode()) + b"\n" for run in runs)


def import_lines(content: bytes, alias: str = ALIAS) -> imports.Imported:
    batches = imports.import_runs(connection=alias, items=imports.Reader(io.BytesIO(content)))
    return sum(batches, imports.Imported())


def archived_run(**fields: Any) -> Run:
    upstream = make_run(**fields)
    import_lines(lines(upstream))
    return Run.objects.select_related("thread").get(connection=ALIAS, upstream_id=upstream["id"])
