"""Where things are in this API. Ids of runs and threads come from upstreams and may hold anything."""

from urllib.parse import quote

from django.urls import reverse
from rest_framework.request import Request

from runsadmin import conf
from runsadmin.models import Run, Thread


class Addresses:
    """Absolute addresses, as the caller of this request sees the server."""

    def __init__(self, request: Request) -> None:
        self._runs = request.build_absolute_uri(reverse("api:runs"))
        self._threads = request.build_absolute_uri(reverse("api:threads"))
        self._edits = request.build_absolute_uri(reverse("api:edits"))
        self._bulk_edits = request.build_absolute_uri(reverse("api:bulk-edits"))
        self._syncs = request.build_absolute_uri(reverse("api:syncs"))
        self._is_plain = len(conf.connections()) == 1

    def run(self, run: Run) -> str:
        return self._named(self._runs, run)

    def thread(self, thread: Thread) -> str:
        return self._named(self._threads, thread)

    def edit(self, pk: int) -> str:
        return f"{self._edits}{pk}/"

    def bulk_edit(self, pk: int) -> str:
        return f"{self._bulk_edits}{pk}/"

    def sync(self, pk: int) -> str:
        return f"{self._syncs}{pk}/"

    def _named(self, root: str, row: Run | Thread) -> str:
        """Says the connection too where there are several: the other one may have the same id."""
        address = f"{root}{quote(row.upstream_id, safe='', errors='replace')}/"
        return address if self._is_plain else f"{address}?connection={quote(row.connection)}"
