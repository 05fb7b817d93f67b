"""Finding a run or a thread by the id that its upstream gave it: two connections may give the same one."""

from collections.abc import Mapping
from typing import Any

from django.db.models import QuerySet
from rest_framework.exceptions import ValidationError

from runsadmin import conf
from runsadmin.api.problems import ProblemType, Refused
from runsadmin.models import Run, Thread
from runsadmin.text import is_text


def find[M: (Run, Thread)](rows: QuerySet[M], upstream_id: str, query: Mapping[str, Any]) -> M:
    """Raises Refused: 404 where there is none, 409 where there are several and the query names no connection."""
    found = list(rows.filter(upstream_id=upstream_id)) if is_text(upstream_id) else []
    if "connection" in query:
        found = [row for row in found if row.connection == query["connection"]]
    what = rows.model._meta.verbose_name
    match found:
        case [row]:
            return row
        case []:
            raise Refused(ProblemType.NOT_FOUND, f"No {what} with this id is mirrored here.")
        case _:
            names = ", ".join(sorted(row.connection for row in found))
            raise Refused(
                ProblemType.AMBIGUOUS_ID,
                f"Several connections have a {what} with this id. Name one: ?connection= {names}.",
            )


def connection_of(body: Mapping[str, Any]) -> str:
    """The connection that a body names, or else the only one that is configured."""
    if "connection" in body:
        return str(body["connection"])
    known = list(conf.connections())
    if len(known) != 1:
        raise ValidationError({"connection": f"Name one of the connections: {', '.join(known)}."}, code="required")
    return known[0]
