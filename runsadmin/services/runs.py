"""The mirror: what upstream says of a run, stored in the order of truths."""

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import F

from runsadmin import jsontext
from runsadmin.errors import Busy, NotFound, UpstreamError
from runsadmin.metadata import Metadata, MetadataState
from runsadmin.models import Pair, Run, Thread
from runsadmin.models.statements import update_each
from runsadmin.services import clock, connections, permissions, probes
from runsadmin.services.clock import Watch
from runsadmin.upstream.client import Answer
from runsadmin.upstream.records import RunRecord, indexed_text

KNOWN = (
    "pk", "thread_id", "digest", "metadata_state", "created_at", "asked_at", "answered_at", "refresh_at",
    "missing_since", "version",
)  # fmt: skip


@dataclass(frozen=True)
class Seen[T]:
    """An answer and when, by the database's clock, it was asked for and came."""

    answer: Answer[T]
    asked_at: dt.datetime
    answered_at: dt.datetime


@dataclass(frozen=True)
class Stored:
    """How many runs were written. `elsewhere` has the ids of those that belong to another thread: they stay there."""

    created: int
    updated: int
    elsewhere: tuple[str, ...] = ()

    def __add__(self, other: "Stored") -> "Stored":
        elsewhere = self.elsewhere + other.elsewhere
        return Stored(self.created + other.created, self.updated + other.updated, elsewhere)


def see[T](call: Callable[[], Answer[T]], watch: Watch | None = None) -> Seen[T]:
    """Makes a call between two looks at the clock: it was asked no earlier and answered no later than they say."""
    asked_at = watch.earliest() if watch else clock.now()
    answer = call()
    return Seen(answer, asked_at, watch.latest() if watch else clock.now())


def retrieve(run: Run) -> Answer[RunRecord]:
    return connections.client(run.connection).retrieve_run(run.thread.upstream_id, run.upstream_id)


def look(run: Run) -> Seen[RunRecord]:
    """What upstream has now. Raises UpstreamError."""
    try:
        return see(lambda: retrieve(run))
    except UpstreamError as error:
        connections.judge(run.connection, error)
        raise


@dataclass(frozen=True)
class _Sighting:
    """What one answer says of one run."""

    thread: Thread
    record: RunRecord
    asked_at: dt.datetime
    answered_at: dt.datetime


def store_one(run: Run, seen: Seen[RunRecord]) -> Stored:
    return compare([(run.thread, seen)]).write()


def store(thread: Thread, records: Sequence[RunRecord], *, asked_at: dt.datetime, answered_at: dt.datetime) -> Stored:
    """Writes what one answer says of a thread's runs, where it is newer than what is known."""
    return compare_list(thread, records, asked_at=asked_at, answered_at=answered_at).write()


def compare_list(
    thread: Thread, records: Sequence[RunRecord], *, asked_at: dt.datetime, answered_at: dt.datetime
) -> "Difference":
    """Beside what is known, what one answer says of a thread's runs. Reads only."""
    return _compare([_Sighting(thread, record, asked_at, answered_at) for record in records])


def compare(seen: Iterable[tuple[Thread, Seen[RunRecord]]]) -> "Difference":
    """Beside what is known, what several answers say, each of one run, all of one connection.

    Reads only: whoever writes it into a transaction of his own holds no lock in the meantime.
    """
    return _compare([_Sighting(thread, one.answer.value, one.asked_at, one.answered_at) for thread, one in seen])


def _compare(sightings: Iterable[_Sighting], *, lock: bool = False) -> "Difference":
    by_id = {sighting.record.upstream_id: sighting for sighting in sightings}
    alias = next((sighting.thread.connection for sighting in by_id.values()), "")
    rows = Run.objects.filter(connection=alias, upstream_id__in=by_id).order_by("id")
    if lock:
        rows = rows.select_for_update()
    known = {row["upstream_id"]: row for row in rows.values("upstream_id", *KNOWN)}
    was: dict[int, RunRecord] = {}
    if incomplete := [row for id, row in known.items() if not by_id[id].record.is_complete]:
        was |= _stored(incomplete)
        for row in incomplete:
            sighting = by_id[row["upstream_id"]]
            by_id[row["upstream_id"]] = replace(sighting, record=sighting.record.completed_by(was[row["pk"]]))
    was |= _stored([row for id, row in known.items() if not _is_unchanged(row, by_id[id]) and row["pk"] not in was])
    return Difference(by_id, known, was)


def _is_unchanged(row: Mapping[str, Any], sighting: _Sighting) -> bool:
    record = sighting.record
    return bool(row["metadata_state"] == record.metadata_state and row["digest"] == record.digest)


def _stored(rows: Sequence[Mapping[str, Any]]) -> dict[int, RunRecord]:
    """What the mirror holds of these runs, by their keys."""
    if not rows:
        return {}
    states = {row["pk"]: MetadataState(row["metadata_state"]) for row in rows}
    stored = Run.objects.filter(pk__in=states).values_list("pk", "upstream_id", "thread__upstream_id", "raw")
    return {pk: RunRecord(jsontext.loads(raw), id, thread_id, states[pk]) for pk, id, thread_id, raw in stored}


class _Overtaken(Exception):
    """Somebody else wrote one of these rows since they were read."""


@dataclass(frozen=True)
class Difference:
    """What answers say of runs, by their upstream ids, beside what the mirror held of them.

    An answer replaces a row only if it was asked for after the row's own answer came. Where the two overlap nobody
    knows their order: the row stays and is marked to be read again. An unchanged run costs no write.
    """

    sightings: Mapping[str, _Sighting]
    known: Mapping[str, Mapping[str, Any]]
    was: Mapping[int, RunRecord]

    def changes(self, upstream_id: str) -> bool:
        """Whether a run that is known is no longer what it was."""
        return not _is_unchanged(self.known[upstream_id], self.sightings[upstream_id])

    def write(self) -> Stored:
        """Compares again, with the rows locked, if one of them was written in the meantime."""
        if not self.sightings:
            return Stored(0, 0)
        try:
            with transaction.atomic():
                return self._write()
        except (IntegrityError, _Overtaken):
            with transaction.atomic():
                return _compare(self.sightings.values(), lock=True)._write()

    def _write(self) -> Stored:
        # A run that a pass found unchanged was confirmed at that pass, though its row was not written.
        threads = {sighting.thread.pk for sighting in self.sightings.values()}
        confirmed_at = dict(Thread.objects.filter(pk__in=threads).values_list("pk", "fully_checked_at"))
        changed: list[tuple[Mapping[str, Any], _Sighting]] = []
        overlapping: list[int] = []
        elsewhere: list[str] = []
        settled: list[tuple[dict[str, object], dict[str, object]]] = []
        for upstream_id, row in self.known.items():
            sighting = self.sightings[upstream_id]
            if row["thread_id"] != sighting.thread.pk:
                elsewhere.append(upstream_id)
                continue
            is_newer = sighting.asked_at > row["answered_at"]
            confirmed = confirmed_at[sighting.thread.pk]
            if _is_unchanged(row, sighting):
                if is_newer and (row["refresh_at"] or row["missing_since"]):
                    values = {"refresh_at": None, "missing_since": None, "version": row["version"] + 1}
                    settled.append((values, {"id": row["pk"], "version": row["version"]}))
            elif is_newer and (confirmed is None or sighting.asked_at > confirmed):
                changed.append((row, sighting))
            elif sighting.answered_at >= row["asked_at"]:
                overlapping.append(row["pk"])

        new = [_new_run(sighting) for upstream_id, sighting in self.sightings.items() if upstream_id not in self.known]
        Run.objects.bulk_create(new)
        Pair.objects.bulk_create(
            _pair(run.pk, run.connection, run.created_at, key, value)
            for run in new
            for key, value in _indexed(self.sightings[run.upstream_id].record.metadata).items()
        )
        if changed:
            _rewrite(changed, self.was)
        if settled:
            _update(settled)
        if overlapping:
            Run.objects.filter(pk__in=overlapping, refresh_at=None).update(refresh_at=clock.now())
        return Stored(len(new), len(changed), tuple(elsewhere))


def _new_run(sighting: _Sighting) -> Run:
    unknown = {"created_at": sighting.answered_at, "created_at_is_known": False}
    return Run(
        connection=sighting.thread.connection,
        upstream_id=sighting.record.upstream_id,
        thread_id=sighting.thread.pk,
        raw=sighting.record.raw,
        digest=sighting.record.digest,
        metadata_state=sighting.record.metadata_state,
        asked_at=sighting.asked_at,
        answered_at=sighting.answered_at,
        **(unknown | sighting.record.columns),
    )


def _update(rows: Sequence[tuple[dict[str, object], dict[str, object]]]) -> None:
    if update_each(Run, rows) < len(rows):
        raise _Overtaken


def _rewrite(rows: Sequence[tuple[Mapping[str, Any], _Sighting]], was: Mapping[int, RunRecord]) -> None:
    """Writes the columns that are no longer what they were, and the pairs. Indexes of the others are left alone."""
    alike: dict[tuple[str, ...], list[tuple[dict[str, object], dict[str, object]]]] = defaultdict(list)
    for row, sighting in rows:
        record = sighting.record
        now = {
            "thread_id": sighting.thread.pk,
            "metadata_state": record.metadata_state,
            "refresh_at": None,
            "missing_since": None,
        }
        values: dict[str, object] = {
            "raw": record.raw,
            "digest": record.digest,
            "asked_at": sighting.asked_at,
            "answered_at": sighting.answered_at,
            "version": row["version"] + 1,
            **{column: value for column, value in now.items() if value != row[column]},
            **record.changes_since(was[row["pk"]]),
        }
        alike[tuple(values)].append((values, {"id": row["pk"], "version": row["version"]}))
    for some in alike.values():
        _update(some)
    _rewrite_pairs(rows, was)


def _rewrite_pairs(rows: Sequence[tuple[Mapping[str, Any], _Sighting]], was: Mapping[int, RunRecord]) -> None:
    """Those of a run are what its row says: nobody writes the one without the other."""
    new: list[Pair] = []
    gone: dict[str, list[int]] = defaultdict(list)
    changed: list[tuple[dict[str, object], dict[str, object]]] = []
    for row, sighting in rows:
        pk = row["pk"]
        before, now = _indexed(was[pk].metadata), _indexed(sighting.record.metadata)
        created_at = sighting.record.created_at or row["created_at"]
        kept = before if created_at == row["created_at"] else {}
        for key in before.keys() - (now.keys() & kept.keys()):
            gone[key].append(pk)
        for key, value in now.items():
            if key not in kept:
                new.append(_pair(pk, sighting.thread.connection, created_at, key, value))
            elif value != kept[key]:
                changed.append(({"value": value}, {"run_id": pk, "key": key}))
    for key, runs in gone.items():
        Pair.objects.filter(key=key, run__in=runs).delete()
    if changed:
        update_each(Pair, changed)
    Pair.objects.bulk_create(new)


def _indexed(metadata: Metadata) -> dict[str, str]:
    return {
        indexed_text(key, Pair.INDEXED_LENGTH): indexed_text(value, Pair.INDEXED_LENGTH)
        for key, value in metadata.items()
    }


def _pair(run: int, connection: str, created_at: dt.datetime, key: str, value: str) -> Pair:
    return Pair(run_id=run, connection=connection, key=key, value=value, created_at=created_at)


def refresh(*, run: Run, actor: User) -> Run:
    """Reads a run anew for a person. Raises NotAllowed, UpstreamError; NotFound when upstream no longer has it."""
    permissions.require(actor, permissions.Action.EDIT_METADATA)
    connections.wait_for_places(run.connection, 1, person=True)
    try:
        store_one(run, look(run))
    except UpstreamError as error:
        if probes.is_needed(error):
            find_reach(run, error)
        raise
    return Run.objects.select_related("thread").get(pk=run.pk)


def find_reach(run: Run, error: UpstreamError) -> bool:
    """After an error that may concern more than this run: whether it is this run that is missing.

    Raises UpstreamError when that could not be found out.
    """
    return apply_reach(run, error, probes.ask_about(run.thread, error))


def apply_reach(run: Run, error: UpstreamError, reach: probes.Reach) -> bool:
    """Marks the run missing, or holds the connection where the error concerns all of it. Returns the former.

    Raises UpstreamError when neither is certain.
    """
    if isinstance(reach.error, Busy):
        raise reach.error
    if reach.error is not None:
        connections.judge(run.connection, reach.error)
    if reach.is_outage:
        connections.hold_for_outage(run.connection, error)
    elif isinstance(error, NotFound):
        if reach.error is not None:
            raise reach.error
        if not reach.is_all_gone:
            mark_missing(run)
            if reach.thread_is_gone:
                mark_thread_missing(run.thread)
            return True
        connections.hold(
            run.connection,
            connections.Hold.NOT_FOUND,
            f"The server answers 404 for everything that was asked, {run.upstream_id} for one: {error}",
        )
    return False


def mark_missing(run: Run) -> None:
    gone = {"missing_since": clock.now(), "refresh_at": None}
    Run.objects.filter(pk=run.pk, missing_since=None).update(**gone, version=F("version") + 1)


def mark_thread_missing(thread: Thread) -> None:
    Thread.objects.filter(pk=thread.pk, missing_since=None).update(missing_since=clock.now())


def refresh_marked(limit: int = 100) -> int:
    """Reads again the runs whose answers overlapped. Returns how many were read."""
    count = 0
    marked = Run.objects.filter(refresh_at__isnull=False, connection__in=connections.open_aliases())
    for run in marked.select_related("thread").order_by("refresh_at")[:limit]:
        try:
            connections.wait_for_places(run.connection, 1)
            try:
                store_one(run, look(run))
            except UpstreamError as error:
                if not probes.is_needed(error) or not find_reach(run, error):
                    continue
        except UpstreamError:
            continue
        count += 1
    return count
