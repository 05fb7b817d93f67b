"""URLs of this API. Ids of runs and threads come from upstreams and may contain nearly any character."""

from functools import cached_property
from urllib.parse import quote

from django.urls import reverse
from rest_framework.request import Request

from runsadmin import conf
from runsadmin.models import Run, Thread


class Links:
    """Absolute URLs, with the host that the request was sent to."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._default_connection = conf.default_connection()

    @cached_property
    def _runs(self) -> str:
        return self._list("run")

    @cached_property
    def _threads(self) -> str:
        return self._list("thread")

    @cached_property
    def _edits(self) -> str:
        return self._list("edit")

    def _list(self, resource: str) -> str:
        return self._request.build_absolute_uri(reverse(f"api:{resource}-list"))

    def edit(self, pk: int) -> str:
        return f"{self._edits}{pk}/"

    def runs(self, query: str) -> str:
        return f"{self._runs}?{query}"

    def run(self, run: Run) -> str:
        return self._by_upstream_id(self._runs, run)

    def thread(self, thread: Thread) -> str:
        return self._by_upstream_id(self._threads, thread)

    def _by_upstream_id(self, collection: str, row: Run | Thread) -> str:
        """Includes the connection unless it is the only one configured, as another one may have the same id."""
        url = f"{collection}{quote(row.upstream_id, safe='', errors='replace')}/"
        return url if row.connection == self._default_connection else f"{url}?connection={quote(row.connection)}"
