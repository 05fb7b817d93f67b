"""Looks up runs and threads by their upstream id, which is unique only within a connection."""

from runsadmin import conf
from runsadmin.api.problems import ProblemError, ProblemType
from runsadmin.api.viewsets.strict import StrictViewSet
from runsadmin.models import Run, Thread
from runsadmin.text import is_text


class UpstreamIdViewSet[M: (Run, Thread)](StrictViewSet[M]):
    lookup_field = "upstream_id"
    lookup_value_converter = "path"  # An id may contain slashes.

    def get_object(self) -> M:
        """Raises ProblemError: 404 if nothing matches, 409 if several rows match and the query names no connection."""
        rows = self.get_queryset()
        assert self.lookup_url_kwarg is not None
        upstream_id = self.kwargs[self.lookup_url_kwarg]
        found = list(self.filter_queryset(rows.filter(upstream_id=upstream_id))) if is_text(upstream_id) else []
        if len(found) > 1:  # Without a connection in the query, those that are configured come first.
            found = [row for row in found if row.connection in conf.connections()] or found
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
