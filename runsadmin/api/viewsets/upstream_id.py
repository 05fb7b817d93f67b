"""Runs and threads are looked up by their upstream id. Two connections may have the same id."""

from collections.abc import Mapping
from typing import Any

from rest_framework.exceptions import ValidationError

from runsadmin import conf
from runsadmin.api.problems import ProblemError, ProblemType
from runsadmin.api.viewsets.strict import StrictViewSet
from runsadmin.models import Run, Thread
from runsadmin.text import is_text


class UpstreamIdViewSet[M: (Run, Thread)](StrictViewSet[M]):
    lookup_field = "upstream_id"
    lookup_value_converter = "path"  # An id may contain slashes.

    def get_object(self) -> M:
        """Raises ProblemError: 404 without a match, 409 for several when the query names no connection."""
        rows = self.get_queryset()
        assert self.lookup_url_kwarg is not None
        upstream_id = self.kwargs[self.lookup_url_kwarg]
        found = list(rows.filter(upstream_id=upstream_id)) if is_text(upstream_id) else []
        if "connection" in self.query:
            found = [row for row in found if row.connection == self.query["connection"]]
        name = rows.model._meta.verbose_name
        match found:
            case [row]:
                return row
            case []:
                raise ProblemError(ProblemType.NOT_FOUND, f"The mirror has no {name} with this id.")
            case _:
                aliases = ", ".join(sorted(row.connection for row in found))
                raise ProblemError(
                    ProblemType.AMBIGUOUS_ID,
                    f"Several connections have a {name} with this id. Add ?connection= with one of: {aliases}.",
                )


def connection_of(body: Mapping[str, Any]) -> str:
    """The connection that a body names, or else the only one that is configured."""
    if "connection" in body:
        return str(body["connection"])
    if (alias := conf.default_connection()) is None:
        aliases = ", ".join(conf.connections())
        raise ValidationError({"connection": f"Name one of the connections: {aliases}."}, code="required")
    return alias
