"""The mirror: runs as upstream returned them, stored in the order of responses."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import F, QuerySet

from runsadmin import conf, lenient_json
from runsadmin.errors import UpstreamError
from runsadmin.metadata import MetadataState
from runsadmin.models import MetadataPair, Run, Thread, stored_json
from runsadmin.models.bulk_insert import insert_rows, reserve_ids
from runsadmin.models.bulk_sql import Row, select_rows, update_rows
from runsadmin.models.stored_json import Unpacked
from runsadmin.services import clock, connections, gateway, permissions, probes
from runsadmin.services.clock import ClockBounds
from runsadmin.services.gateway import TimedResponse
from runsadmin.upstream.records import RunRecord, indexed_key, indexed_text

# The columns to read for each known run, unless a list showed that the run is unchanged.
COLUMNS = (
    "pk", "upstream_id", "thread_id", "digest", "metadata_state", "created_at", "requested_at", "received_at",
    "needs_refresh_since", "missing_since", "version", "raw",
)  # fmt: skip


class Observation(NamedTuple):
    """One run in one response, and its thread."""

    thread: Thread
    timed: TimedResponse[RunRecord]


@dataclass(frozen=True)
class Stored:
    """How many runs were written."""

    created: int = 0
    updated: int = 0

    def __add__(self, other: "Stored") -> "Stored":
        return Stored(self.created + other.created, self.updated + other.updated)


def compare(
    observations: Iterable[tuple[Thread, TimedResponse[RunRecord]]], *, of_list: bool = False, lock: bool = False
) -> "Difference":
    """Compares received runs of one connection with the mirror. `of_list` is true if lists showed them.

    Call it before the transaction that writes, which then holds no locks during the comparison.
    """
    by_id = {timed.value.upstream_id: Observation(thread, timed) for thread, timed in observations}
    alias = next((observation.thread.connection for observation in by_id.values()), "")
    unchanged: frozenset[str] = frozenset()
    if of_list and not lock:
        unchanged, others = _find_unchanged(alias, by_id)
        known = _known(Run.objects.filter(pk__in=others)) if others else {}
    else:
        rows = Run.objects.filter(connection=alias, upstream_id__in=by_id)
        known = _known(rows.select_for_update() if lock else rows)
    mirrored = {}
    for upstream_id, row in known.items():
        observation = by_id[upstream_id]
        record = observation.timed.value
        if not record.is_complete or _is_changed(row, record):
            state = MetadataState(row["metadata_state"])
            mirrored[upstream_id] = RunRecord(lenient_json.loads(row["raw"]), upstream_id, state)
            completed = record.completed_by(mirrored[upstream_id])
            by_id[upstream_id] = observation._replace(timed=observation.timed.with_value(completed))
    for upstream_id in unchanged:
        del by_id[upstream_id]
    return Difference(by_id, unchanged, known, mirrored, of_list)


def _known(rows: QuerySet[Run]) -> dict[str, dict[str, Any]]:
    """The rows by upstream id, read or locked in the order of their primary keys."""
    return {row["upstream_id"]: row for row in rows.order_by("id").values(*COLUMNS)}


def _find_unchanged(alias: str, by_id: Mapping[str, Observation]) -> tuple[frozenset[str], Collection[int]]:
    """The ids of the listed runs whose rows need no update, and the primary keys of the other known runs."""
    names = ("id", "upstream_id", "thread_id", "metadata_state", "digest", "needs_refresh_since", "missing_since")
    unchanged: set[str] = set()
    others: set[int] = set()
    for pk, upstream_id, *row in select_rows(Run, names, connection=alias, upstream_ids=by_id.keys()):
        thread, timed = by_id[upstream_id]
        record = timed.value
        if record.is_complete and row == [thread.pk, record.metadata_state, record.digest, None, None]:
            unchanged.add(upstream_id)
        else:
            others.add(pk)
    return frozenset(unchanged), others


def _is_changed(row: Mapping[str, Any], record: RunRecord) -> bool:
    return bool(row["metadata_state"] != record.metadata_state or row["digest"] != record.digest)


class ConcurrentWrite(Exception):
    """Another process has written one of these rows since they were read."""


@dataclass(frozen=True)
class Difference:
    """Received runs, by upstream id, and the rows that the mirror had for them before.

    A response replaces a row only if it was requested after the row's own response was received. Where the two
    overlap, their order is unknown: the row stays, and its run is marked to be fetched again. An unchanged run of a
    list costs no write: only its id is kept. `mirrored` has the stored versions of the runs that differ or were not
    received whole.
    """

    observations: Mapping[str, Observation]
    unchanged: frozenset[str]
    known: Mapping[str, Mapping[str, Any]]
    mirrored: Mapping[str, RunRecord]
    of_list: bool

    @classmethod
    def of_all(cls, differences: Sequence["Difference"]) -> "Difference":
        """The differences of several pages as one. Each page was requested after the one before was received."""
        observations: dict[str, Observation] = {}
        known: dict[str, Mapping[str, Any]] = {}
        mirrored: dict[str, RunRecord] = {}
        for difference in differences:
            for upstream_id in difference.unchanged:  # An earlier page may have shown a change that was then reverted.
                observations.pop(upstream_id, None)
                known.pop(upstream_id, None)
            observations |= difference.observations
            known |= difference.known
            mirrored |= difference.mirrored
        return cls(observations, frozenset(), known, mirrored, of_list=True)

    def singles(self) -> Iterator["Difference"]:
        """The same differences, run by run."""
        for upstream_id, observation in self.observations.items():
            known = {upstream_id: self.known[upstream_id]} if upstream_id in self.known else {}
            mirrored = {upstream_id: self.mirrored[upstream_id]} if upstream_id in self.mirrored else {}
            yield Difference({upstream_id: observation}, frozenset(), known, mirrored, self.of_list)

    @property
    def elsewhere(self) -> list[str]:
        """The ids of runs that belong to another thread, where they stay."""
        return [
            upstream_id
            for upstream_id, row in self.known.items()
            if row["thread_id"] != self.observations[upstream_id].thread.pk
        ]

    def knows(self, upstream_id: str) -> bool:
        return upstream_id in self.known or upstream_id in self.unchanged

    def changes(self, upstream_id: str) -> bool:
        """Whether a known run differs from its row."""
        row = self.known.get(upstream_id)
        return row is not None and _is_changed(row, self.observations[upstream_id].timed.value)

    def write(self, *, missing_runs: Collection[int] = (), missing_threads: Collection[int] = ()) -> Stored:
        """Writes the changes, and marks the rows with these primary keys as missing upstream.

        If another process has changed one of the received runs, compares again with locked rows.
        """
        stored = self._write_received() if self.observations else Stored()
        mark_missing(runs=missing_runs, threads=missing_threads)
        return stored

    def _write_received(self) -> Stored:
        try:
            with transaction.atomic():
                return self._write()
        except (IntegrityError, ConcurrentWrite):
            with transaction.atomic():
                return compare(self.observations.values(), of_list=self.of_list, lock=True)._write()

    def _write(self) -> Stored:
        # A run that a pass found unchanged was confirmed by that pass, although its row was not written.
        threads = {self.observations[upstream_id].thread.pk for upstream_id in self.known}
        confirmed_at = dict(Thread.objects.filter(pk__in=threads).values_list("pk", "fully_checked_at"))
        changed: list[str] = []
        overlapping: list[int] = []
        rows: list[Row] = []
        for upstream_id, row in self.known.items():
            thread, timed = self.observations[upstream_id]
            if row["thread_id"] != thread.pk:
                continue
            is_newer = timed.requested_at > row["received_at"]
            confirmed = confirmed_at[thread.pk]
            values: dict[str, object] = {"received_at": timed.received_at}
            this_row = {"id": row["pk"], "version": row["version"]}
            if not self.changes(upstream_id):
                if is_newer and (row["needs_refresh_since"] or row["missing_since"]):
                    values |= {"needs_refresh_since": None, "missing_since": None, "version": row["version"] + 1}
                    rows.append((values, this_row))
                elif is_newer and not self.of_list:
                    rows.append((values, this_row))
            elif is_newer and (confirmed is None or timed.requested_at > confirmed):
                changed.append(upstream_id)
            elif timed.received_at >= row["requested_at"]:
                overlapping.append(row["pk"])

        new = self._create_new()
        rows += self._changed_rows(changed)
        if len(update_rows(Run, rows)) < len(rows):
            raise ConcurrentWrite
        self._rewrite_pairs(changed)
        if overlapping:
            Run.objects.filter(pk__in=overlapping, needs_refresh_since=None).update(needs_refresh_since=clock.now())
        return Stored(new, len(changed))

    def _changed_rows(self, changed: Sequence[str]) -> list[Row]:
        observed = [self.observations[upstream_id].timed for upstream_id in changed]
        return [
            (_changes(row, timed, self.mirrored[upstream_id]) | packed, {"id": row["pk"], "version": row["version"]})
            for upstream_id, timed, packed in zip(changed, observed, _packed(observed), strict=True)
            for row in [self.known[upstream_id]]
        ]

    def _create_new(self) -> int:
        observed = [each for upstream_id, each in self.observations.items() if upstream_id not in self.known]
        if not observed:
            return 0
        packed = _packed([timed for _, timed in observed])
        ids = reserve_ids(Run, len(observed))
        rows = [
            {"id": id, **_new_run(thread, timed), **raw}
            for id, (thread, timed), raw in zip(ids, observed, packed, strict=True)
        ]
        insert_rows(Run, rows)
        insert_rows(
            MetadataPair,
            [
                _pair(row["id"], row["created_at"], key, value)
                for row, (_, timed) in zip(rows, observed, strict=True)
                for key, value in _indexed(timed.value).items()
            ],
        )
        return len(rows)

    def _rewrite_pairs(self, changed: Iterable[str]) -> None:
        """Rewrites the changed pairs of these runs. Pairs are only written together with their run."""
        written: list[dict[str, object]] = []
        gone: dict[str, list[int]] = defaultdict(list)
        for upstream_id in changed:
            row, timed = self.known[upstream_id], self.observations[upstream_id].timed
            before, now = _indexed(self.mirrored[upstream_id]), _indexed(timed.value)
            created_at = timed.value.created_at or row["created_at"]
            for key in before.keys() - now.keys():
                gone[key].append(row["pk"])
            written += [
                _pair(row["pk"], created_at, key, value)
                for key, value in now.items()
                if created_at != row["created_at"] or value != before.get(key)
            ]
        for key, runs in gone.items():
            MetadataPair.objects.filter(key=key, run__in=runs).delete()
        MetadataPair.objects.bulk_create(
            (MetadataPair(**pair) for pair in written),
            update_conflicts=True,
            unique_fields=["run", "key"],
            update_fields=["value", "created_at"],
        )


def _packed(observed: Sequence[TimedResponse[RunRecord]]) -> list[dict[str, Any]]:
    """The columns that store the whole response."""
    return stored_json.pack([Unpacked(timed.value.raw, timed.value.shareable) for timed in observed])


def _new_run(thread: Thread, timed: TimedResponse[RunRecord]) -> dict[str, object]:
    record = timed.value
    return {
        "connection": thread.connection,
        "upstream_id": record.upstream_id,
        "thread_id": thread.pk,
        "in_api_format": record.in_api_format,
        "digest": record.digest,
        "metadata_state": record.metadata_state,
        "requested_at": timed.requested_at,
        "received_at": timed.received_at,
        "created_at": timed.received_at,
        "created_at_is_known": False,
        **record.columns,
    }


def _changes(row: Mapping[str, Any], timed: TimedResponse[RunRecord], was: RunRecord) -> dict[str, object]:
    """Only the changed columns, so that the indexes of other columns need no update."""
    record = timed.value
    states = {"metadata_state": record.metadata_state, "needs_refresh_since": None, "missing_since": None}
    return {
        "in_api_format": record.in_api_format,
        "digest": record.digest,
        "requested_at": timed.requested_at,
        "received_at": timed.received_at,
        "version": row["version"] + 1,
        **{column: value for column, value in states.items() if value != row[column]},
        **record.changes_since(was),
    }


def _indexed(record: RunRecord) -> dict[str, str]:
    """The pairs of a run as they are stored for searching."""
    length = MetadataPair.INDEXED_LENGTH
    return {indexed_key(key, length): indexed_text(value, length) for key, value in record.metadata.items()}


def _pair(run: object, created_at: object, key: str, value: str) -> dict[str, Any]:
    return {"run_id": run, "key": key, "value": value, "created_at": created_at}


def refresh(*, run: Run, actor: User) -> Run:
    """Fetches a run for an actor.

    Raises NotAllowed, UnknownConnection, ReadOnlyConnection or UpstreamError: NotFound if upstream no longer has it.
    """
    permissions.require(actor, permissions.Action.EDIT_METADATA)
    conf.upstream(run.connection)
    if missing := fetch(run, interactive=True):
        raise missing
    return Run.objects.select_related("thread").get(pk=run.pk)


def fetch(run: Run, *, interactive: bool = False) -> UpstreamError | None:
    """Fetches and stores a run. Returns the 404 if upstream no longer has it. Raises UpstreamError."""
    connections.wait_for_slots(run.connection_settings, 1, interactive=interactive)
    try:
        compare([(run.thread, gateway.fetch_run(run.thread, run.upstream_id, ClockBounds()))]).write()
    except UpstreamError as error:
        connections.apply_error(run.connection, error)
        if probes.is_needed(error) and find_reach(run, error):
            return error
        raise
    return None


def find_reach(run: Run, error: UpstreamError) -> bool:
    """Finds out how far the error of a request for this run reaches. Returns whether the run is missing.

    Marks the run as missing or holds the connection, if necessary. Raises UpstreamError if the result is not certain.
    """
    conclusion = probes.find_out(run.thread, run.upstream_id, error)
    if conclusion.error is not None:
        raise conclusion.error
    mark_missing(
        runs=[run.pk] if conclusion.run_is_missing else [],
        threads=[run.thread_id] if conclusion.thread_is_missing else [],
    )
    return conclusion.run_is_missing


def mark_missing(*, runs: Collection[int] = (), threads: Collection[int] = ()) -> None:
    """Marks runs before threads, as syncs do: in another order, two transactions could wait for each other."""
    if runs:
        gone = {"missing_since": clock.now(), "needs_refresh_since": None}
        Run.objects.filter(pk__in=runs, missing_since=None).update(**gone, version=F("version") + 1)
    if threads:
        Thread.objects.filter(pk__in=threads, missing_since=None).update(missing_since=clock.now())


def mark_for_refresh(*, runs: Iterable[Run], actor: User) -> int:
    """Has workers fetch these runs again soon. Returns how many were marked.

    Raises NotAllowed, UnknownConnection or ReadOnlyConnection.
    """
    permissions.require(actor, permissions.Action.EDIT_METADATA)
    wanted = list(runs)
    for alias in {run.connection for run in wanted}:
        conf.upstream(alias)
    return Run.objects.filter(pk__in=[run.pk for run in wanted]).update(needs_refresh_since=clock.now())
