"""Selects the runs of a bulk edit. A selection is frozen: later changes to the runs do not affect it."""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import batched

from django.contrib.auth.models import User
from django.db.models import QuerySet

from runsadmin import conf, search
from runsadmin.errors import InvalidSelection
from runsadmin.models import DraftSelection, Run
from runsadmin.models.bulk_edit import pack_keys, unpack_keys
from runsadmin.services import clock
from runsadmin.services.run_search import RunSearch
from runsadmin.services.search_time_limit import limited
from runsadmin.text import is_text
from runsadmin.upstream.records import indexed_text

# The order of upstream's lists, so that one page of a thread's list serves many of its runs.
_ORDER = ("thread_id", "-created_at", "-pk")
_BATCH = 500
# At most this many characters of an unknown id are stored.
LONGEST_SHOWN = 200
DRAFT_LIFETIME = dt.timedelta(days=1)


@dataclass(frozen=True)
class Selection:
    """The primary keys of the selected runs, which are all on one connection.

    `tz` is the time zone of the dates in `query`. `not_selected` has the ids that do not select a run, each with a
    reason. `duplicates` is how many ids were repetitions.
    """

    connection: str
    keys: Sequence[int]
    query: str = ""
    not_selected: Sequence[tuple[str, str]] = ()
    duplicates: int = 0
    tz: dt.tzinfo = dt.UTC


def by_search(
    query: str, *, connection: str | None = None, tz: dt.tzinfo = dt.UTC, seconds: float | None = None
) -> Selection:
    """Selects all runs that match now. Raises InvalidSearch, InvalidSelection, UnknownConnection or
    ReadOnlyConnection.

    `seconds` limits how long that takes, as in `search_time_limit.limited`.
    """
    with limited(seconds, may_read_tables=True):
        selection = select_all(RunSearch.parse(query, tz).matching(), query=query, connection=connection)
    return replace(selection, tz=tz)


def select_all(runs: QuerySet[Run], *, query: str, connection: str | None = None) -> Selection:
    """Selects all of `runs`; `query` describes them. Raises InvalidSelection, UnknownConnection or
    ReadOnlyConnection.
    """
    runs = runs.order_by()
    if connection is not None:
        runs = runs.filter(connection=conf.connection(connection).alias)
    alias = _one_connection(runs.values_list("connection", flat=True).distinct())
    return Selection(alias, list(runs.order_by(*_ORDER).values_list("pk", flat=True)), query)


def by_ids(ids: Iterable[str], *, connection: str | None = None) -> Selection:
    """Selects the runs with these upstream ids. Ids that do not select a run are in `not_selected`.

    Raises UnknownConnection, ReadOnlyConnection, or InvalidSelection if no run remains or the runs are on several
    connections.
    """
    given = list(ids)
    ids = list(dict.fromkeys(given))
    rows = Run.objects.filter(connection__in=conf.connections())
    if connection is not None:
        rows = rows.filter(connection=conf.connection(connection).alias)
    found: dict[str, list[tuple[str, tuple[int, float, int]]]] = {}
    for some in batched(ids, _BATCH, strict=False):
        named = rows.filter(upstream_id__in=[id for id in some if is_text(id)])
        for id, alias, thread, created_at, pk in named.values_list(
            "upstream_id", "connection", "thread_id", "created_at", "pk"
        ):
            found.setdefault(id, []).append((alias, (thread, -created_at.timestamp(), -pk)))
    not_selected = [(indexed_text(id, min(len(id), LONGEST_SHOWN)), "unknown") for id in ids if id not in found]
    not_selected += [(id, "ambiguous") for id, several in found.items() if len(several) > 1]
    sure = [several[0] for several in found.values() if len(several) == 1]
    if not sure:
        raise InvalidSelection(_nothing(not_selected), not_selected)
    alias = _one_connection(sorted({alias for alias, _ in sure}))
    keys = [-key[2] for _, key in sorted(sure, key=lambda run: run[1])]
    return Selection(alias, keys, not_selected=not_selected, duplicates=len(given) - len(ids))


def _one_connection(aliases: Iterable[str]) -> str:
    match list(aliases):
        case [alias]:
            return conf.upstream(alias).alias
        case []:
            raise InvalidSelection("No run matches, so there is nothing to plan.")
        case several:
            names = ", ".join(sorted(several))
            raise InvalidSelection(f"These runs are on several connections ({names}). Select runs of one connection.")


def _nothing(not_selected: Sequence[tuple[str, str]]) -> str:
    if not not_selected:
        return "No run was given, so there is nothing to plan."
    shown = ", ".join(id[:60] for id, _ in not_selected[:5])
    return f"None of the given runs can be selected ({shown}{', …' if len(not_selected) > 5 else ''})."


# --- Drafts: selections that are stored until they are planned, so that exactly these runs are planned


def save_draft(*, selection: Selection, actor: User) -> DraftSelection:
    """Stores a selection for its actor, and deletes old drafts that were not planned in time."""
    DraftSelection.objects.filter(created_at__lt=clock.now() - DRAFT_LIFETIME).delete()
    return DraftSelection.objects.create(
        actor=actor, connection=selection.connection, query=selection.query, tz=str(selection.tz),
        packed=pack_keys(selection.keys), not_selected=[list(each) for each in selection.not_selected],
    )  # fmt: skip


def read_draft(*, pk: str, actor: User) -> Selection:
    """Raises InvalidSelection for a draft that no longer exists or belongs to someone else.

    Raises UnknownConnection or ReadOnlyConnection if its runs can no longer be edited.
    """
    draft = DraftSelection.objects.filter(pk=pk, actor=actor).first() if pk.isdecimal() and len(pk) < 19 else None
    if draft is None:
        raise InvalidSelection("This selection is no longer available. Select the runs again.")
    return Selection(
        conf.upstream(draft.connection).alias, unpack_keys(draft.packed), draft.query,
        [(id, why) for id, why in draft.not_selected], tz=search.time_zone(draft.tz),
    )  # fmt: skip
