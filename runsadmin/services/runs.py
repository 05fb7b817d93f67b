"""The mirror: runs as upstream returned them, stored in the order of responses."""

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import F

from runsadmin import lenient_json
from runsadmin.errors import UpstreamError
from runsadmin.metadata import Metadata, MetadataState
from runsadmin.models import MetadataPair, Run, Thread
from runsadmin.models.bulk_sql import update_rows
from runsadmin.services import clock, connections, gateway, permissions, probes
from runsadmin.services.clock import ClockBounds
from runsadmin.services.gateway import TimedResponse
from runsadmin.upstream.records import RunRecord, indexed_text

KNOWN = (
    "pk", "thread_id", "digest", "metadata_state", "created_at", "requested_at", "received_at", "needs_refresh_since",
    "missing_since", "version",
)  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """How many runs were written. `elsewhere` has the ids of runs that belong to another thread and stay there."""

    created: int
    updated: int
    elsewhere: tuple[str, ...] = ()

    def __add__(self, other: "Stored") -> "Stored":
        elsewhere = self.elsewhere + other.elsewhere
        return Stored(self.created + other.created, self.updated + other.updated, elsewhere)


@dataclass(frozen=True)
class Observation:
    """One run in one response."""

    thread: Thread
    record: RunRecord
    requested_at: dt.datetime
    received_at: dt.datetime


def store_one(run: Run, timed: TimedResponse[RunRecord]) -> Stored:
    return compare([(run.thread, timed)]).write()


def store(
    thread: Thread, records: Sequence[RunRecord], *, requested_at: dt.datetime, received_at: dt.datetime
) -> Stored:
    """Stores the runs of one response, all of one thread, if it is newer than the mirror."""
    return compare_list(thread, records, requested_at=requested_at, received_at=received_at).write()


def compare_list(
    thread: Thread, records: Sequence[RunRecord], *, requested_at: dt.datetime, received_at: dt.datetime
) -> "Difference":
    """Compares the runs of one response, all of one thread, with the mirror. Reads only."""
    return _compare([Observation(thread, record, requested_at, received_at) for record in records])


def compare(timed: Iterable[tuple[Thread, TimedResponse[RunRecord]]]) -> "Difference":
    """Compares several responses, each of one run and all of one connection, with the mirror.

    Reads only, so the caller's own transaction holds no lock meanwhile.
    """
    observations = [Observation(thread, one.value, one.requested_at, one.received_at) for thread, one in timed]
    return _compare(observations, confirms=True)


def _compare(observations: Iterable[Observation], *, lock: bool = False, confirms: bool = False) -> "Difference":
    by_id = {observation.record.upstream_id: observation for observation in observations}
    alias = next((observation.thread.connection for observation in by_id.values()), "")
    rows = Run.objects.filter(connection=alias, upstream_id__in=by_id).order_by("id")
    if lock:
        rows = rows.select_for_update()
    # Nearly every write changes its run, so the response before it is read at once; few Runs of a list have changed.
    columns = ("upstream_id", *KNOWN, "raw") if confirms else ("upstream_id", *KNOWN)
    known = {row["upstream_id"]: row for row in rows.values(*columns)}
    mirrored: dict[int, RunRecord] = {}
    if incomplete := [row for id, row in known.items() if not by_id[id].record.is_complete]:
        mirrored |= _stored(incomplete)
        for row in incomplete:
            observation = by_id[row["upstream_id"]]
            by_id[row["upstream_id"]] = replace(
                observation, record=observation.record.completed_by(mirrored[row["pk"]])
            )
    mirrored |= _stored(
        [row for id, row in known.items() if not _is_unchanged(row, by_id[id]) and row["pk"] not in mirrored]
    )
    return Difference(by_id, known, mirrored, confirms)


def _is_unchanged(row: Mapping[str, Any], observation: Observation) -> bool:
    record = observation.record
    return bool(row["metadata_state"] == record.metadata_state and row["digest"] == record.digest)


def _stored(rows: Sequence[Mapping[str, Any]]) -> dict[int, RunRecord]:
    """These runs as mirrored, by key."""
    raw = {row["pk"]: row["raw"] for row in rows if "raw" in row}
    if missing := [row["pk"] for row in rows if row["pk"] not in raw]:
        raw |= dict(Run.objects.filter(pk__in=missing).values_list("pk", "raw"))
    states = {row["pk"]: (row["upstream_id"], MetadataState(row["metadata_state"])) for row in rows}
    return {pk: RunRecord(lenient_json.loads(raw[pk]), *state) for pk, state in states.items()}


class ConcurrentWrite(Exception):
    """Another process wrote one of these rows since they were read."""


@dataclass(frozen=True)
class Difference:
    """Received runs, by upstream id, together with the mirror's rows as read before.

    A response replaces a row only if it was requested after the row's own response was received. Where the two
    overlap their order is unknown: the row stays and is marked to be fetched again. An unchanged run of a list costs
    no write.
    """

    observations: Mapping[str, Observation]
    known: Mapping[str, Mapping[str, Any]]
    mirrored: Mapping[int, RunRecord]
    confirms: bool = False  # Whether to store the time of a response that changes nothing.

    def changes(self, upstream_id: str) -> bool:
        """Whether a known run differs from its row."""
        return not _is_unchanged(self.known[upstream_id], self.observations[upstream_id])

    def write(self) -> Stored:
        """Writes the changes. Compares again, with locked rows, if another process has changed one meanwhile."""
        if not self.observations:
            return Stored(0, 0)
        try:
            with transaction.atomic():
                return self._write()
        except (IntegrityError, ConcurrentWrite):
            with transaction.atomic():
                return _compare(self.observations.values(), lock=True, confirms=self.confirms)._write()

    def _write(self) -> Stored:
        # A run that a pass found unchanged was confirmed then, although its row was not written.
        threads = {observation.thread.pk for observation in self.observations.values()}
        confirmed_at = dict(Thread.objects.filter(pk__in=threads).values_list("pk", "fully_checked_at"))
        changed: list[tuple[Mapping[str, Any], Observation]] = []
        overlapping: list[int] = []
        elsewhere: list[str] = []
        settled: list[tuple[dict[str, object], dict[str, object]]] = []
        confirmed_rows: list[tuple[dict[str, object], dict[str, object]]] = []
        for upstream_id, row in self.known.items():
            observation = self.observations[upstream_id]
            if row["thread_id"] != observation.thread.pk:
                elsewhere.append(upstream_id)
                continue
            is_newer = observation.requested_at > row["received_at"]
            confirmed = confirmed_at[observation.thread.pk]
            if _is_unchanged(row, observation):
                received: dict[str, object] = {"received_at": observation.received_at}
                this_row = {"id": row["pk"], "version": row["version"]}
                if is_newer and (row["needs_refresh_since"] or row["missing_since"]):
                    values = {"needs_refresh_since": None, "missing_since": None, "version": row["version"] + 1}
                    settled.append((received | values, this_row))
                elif is_newer and self.confirms:
                    confirmed_rows.append((received, this_row))
            elif is_newer and (confirmed is None or observation.requested_at > confirmed):
                changed.append((row, observation))
            elif observation.received_at >= row["requested_at"]:
                overlapping.append(row["pk"])

        new = self._create_new()
        if changed:
            _rewrite(changed, self.mirrored)
        for rows in (settled, confirmed_rows):
            if rows:
                _update(rows)
        if overlapping:
            Run.objects.filter(pk__in=overlapping, needs_refresh_since=None).update(needs_refresh_since=clock.now())
        return Stored(len(new), len(changed), tuple(elsewhere))

    def _create_new(self) -> list[Run]:
        items = self.observations.items()
        new = [_new_run(observation) for upstream_id, observation in items if upstream_id not in self.known]
        Run.objects.bulk_create(new)
        MetadataPair.objects.bulk_create(
            _pair(run.pk, run.connection, run.created_at, key, value)
            for run in new
            for key, value in _indexed(self.observations[run.upstream_id].record.metadata).items()
        )
        return new


def _new_run(observation: Observation) -> Run:
    unknown = {"created_at": observation.received_at, "created_at_is_known": False}
    return Run(
        connection=observation.thread.connection,
        upstream_id=observation.record.upstream_id,
        thread_id=observation.thread.pk,
        raw=observation.record.raw,
        digest=observation.record.digest,
        metadata_state=observation.record.metadata_state,
        requested_at=observation.requested_at,
        received_at=observation.received_at,
        **(unknown | observation.record.columns),
    )


def _update(rows: Sequence[tuple[dict[str, object], dict[str, object]]]) -> None:
    if update_rows(Run, rows) < len(rows):
        raise ConcurrentWrite


def _rewrite(rows: Sequence[tuple[Mapping[str, Any], Observation]], mirrored: Mapping[int, RunRecord]) -> None:
    """Writes only the columns that changed, and the pairs, so that other indexes need no update."""
    alike: dict[tuple[str, ...], list[tuple[dict[str, object], dict[str, object]]]] = defaultdict(list)
    for row, observation in rows:
        record = observation.record
        now = {
            "thread_id": observation.thread.pk,
            "metadata_state": record.metadata_state,
            "needs_refresh_since": None,
            "missing_since": None,
        }
        values: dict[str, object] = {
            "raw": record.raw,
            "digest": record.digest,
            "requested_at": observation.requested_at,
            "received_at": observation.received_at,
            "version": row["version"] + 1,
            **{column: value for column, value in now.items() if value != row[column]},
            **record.changes_since(mirrored[row["pk"]]),
        }
        alike[tuple(values)].append((values, {"id": row["pk"], "version": row["version"]}))
    for some in alike.values():
        _update(some)
    _rewrite_pairs(rows, mirrored)


def _rewrite_pairs(rows: Sequence[tuple[Mapping[str, Any], Observation]], mirrored: Mapping[int, RunRecord]) -> None:
    """Rewrites the pairs of runs whose metadata changed. Pairs and rows are only written together, so they match."""
    new: list[MetadataPair] = []
    gone: dict[str, list[int]] = defaultdict(list)
    changed: list[tuple[dict[str, object], dict[str, object]]] = []
    for row, observation in rows:
        pk = row["pk"]
        before, now = _indexed(mirrored[pk].metadata), _indexed(observation.record.metadata)
        created_at = observation.record.created_at or row["created_at"]
        kept = before if created_at == row["created_at"] else {}
        for key in before.keys() - (now.keys() & kept.keys()):
            gone[key].append(pk)
        for key, value in now.items():
            if key not in kept:
                new.append(_pair(pk, observation.thread.connection, created_at, key, value))
            elif value != kept[key]:
                changed.append(({"value": value}, {"run_id": pk, "key": key}))
    for key, runs in gone.items():
        MetadataPair.objects.filter(key=key, run__in=runs).delete()
    if changed:
        update_rows(MetadataPair, changed)
    MetadataPair.objects.bulk_create(new)


def _indexed(metadata: Metadata) -> dict[str, str]:
    return {
        indexed_text(key, MetadataPair.INDEXED_LENGTH): indexed_text(value, MetadataPair.INDEXED_LENGTH)
        for key, value in metadata.items()
    }


def _pair(run: int, connection: str, created_at: dt.datetime, key: str, value: str) -> MetadataPair:
    return MetadataPair(run_id=run, connection=connection, key=key, value=value, created_at=created_at)


def refresh(*, run: Run, actor: User) -> Run:
    """Fetches a run for an actor. Raises NotAllowed, UpstreamError; NotFound if upstream no longer has it."""
    permissions.require(actor, permissions.Action.EDIT_METADATA)
    if missing := _fetch(run, interactive=True):
        raise missing
    return Run.objects.select_related("thread").get(pk=run.pk)


def _fetch(run: Run, *, interactive: bool = False) -> UpstreamError | None:
    """Fetches and stores a run. Returns the 404 if upstream no longer has it. Raises UpstreamError."""
    connections.wait_for_slots(run.connection_settings, 1, interactive=interactive)
    try:
        store_one(run, gateway.fetch_run(run.thread, run.upstream_id, ClockBounds()))
    except UpstreamError as error:
        connections.apply_error(run.connection, error)
        if probes.is_needed(error) and find_reach(run, error):
            return error
        raise
    return None


def find_reach(run: Run, error: UpstreamError) -> bool:
    """After an error that may concern more than this run, returns whether this run is missing.

    Marks the run as missing, or holds the connection. Raises UpstreamError if neither is certain.
    """
    conclusion = probes.find_out(run, error)
    if conclusion.error is not None:
        raise conclusion.error
    mark_missing(
        runs=[run.pk] if conclusion.run_is_missing else [],
        threads=[run.thread_id] if conclusion.thread_is_missing else [],
    )
    return conclusion.run_is_missing


def mark_missing(*, runs: Collection[int] = (), threads: Collection[int] = ()) -> None:
    if runs:
        gone = {"missing_since": clock.now(), "needs_refresh_since": None}
        Run.objects.filter(pk__in=runs, missing_since=None).update(**gone, version=F("version") + 1)
    if threads:
        Thread.objects.filter(pk__in=threads, missing_since=None).update(missing_since=clock.now())


def mark_for_refresh(*, runs: Iterable[Run], actor: User) -> int:
    """Has workers fetch these runs again soon. Returns how many there are. Raises NotAllowed."""
    permissions.require(actor, permissions.Action.EDIT_METADATA)
    return Run.objects.filter(pk__in=[run.pk for run in runs]).update(needs_refresh_since=clock.now())


def refresh_marked(limit: int = 100) -> int:
    """Fetches the runs whose responses overlapped. Returns how many."""
    count = 0
    marked = Run.objects.filter(needs_refresh_since__isnull=False, connection__in=connections.available_aliases())
    for run in marked.select_related("thread").order_by("needs_refresh_since")[:limit]:
        with suppress(UpstreamError):
            _fetch(run)
            count += 1
    return count
