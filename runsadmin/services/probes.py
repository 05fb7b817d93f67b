"""Determines how far an error reaches: one run, one thread, or the whole server.

A 404 may mean a deleted run or a retired service, and a timeout may mean one slow run or an outage. Therefore other
known runs and threads are requested before anything is done about an error. Probes never write.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from runsadmin import conf
from runsadmin.errors import Forbidden, InvalidId, NoSlot, NotFound, Rejected, UpstreamError
from runsadmin.models import ConnectionState, Run, Thread
from runsadmin.services import clock, connections, gateway
from runsadmin.services.gateway import NO_EFFECT, ConnectionEffect

logger = logging.getLogger(__name__)

MAX_OTHERS = 3

Hold = ConnectionState.Hold


@dataclass(frozen=True)
class Target:
    """Something that upstream is known to have had: a run, or a thread if `run_id` is empty."""

    thread_id: str
    run_id: str = ""


@dataclass(frozen=True)
class Reach:
    """The result of the probes.

    `responds`: the server sent a response. `knows`: it sent one other than 404 for a target, or a 404 that names the
    target by id. `thread_is_gone`: it does not have the thread of the error. `others_are_gone`: it also sent a 404
    for something outside that thread. `error` is set if the result is not conclusive, and says why.
    """

    responds: bool = False
    knows: bool = False
    thread_is_gone: bool = False
    others_are_gone: bool = False
    error: UpstreamError | None = None

    @property
    def is_all_gone(self) -> bool:
        """Whether every probe returned 404, including those outside the thread."""
        return self.responds and self.error is None and not self.knows and self.others_are_gone


def is_needed(error: UpstreamError) -> bool:
    """Whether the meaning of this error depends on how far it reaches."""
    return isinstance(error, NotFound) or error.is_outage


def targets(thread: Thread) -> list[Target]:
    """What to request after an error in this thread: the thread itself, then a few runs of other threads."""
    others = Thread.objects.filter(connection=thread.connection, missing_since=None).exclude(pk=thread.pk)
    return [Target(thread.upstream_id), *map(_known, others.order_by("-checked_at", "-id")[:MAX_OTHERS])]


def known_targets(alias: str) -> list[Target]:
    """What to request to check whether a connection works: known runs, or else a missing thread."""
    threads = Thread.objects.filter(connection=alias).order_by("-checked_at", "-id")
    known = [_known(thread) for thread in threads.filter(missing_since=None)[:MAX_OTHERS]]
    return known or [Target(thread.upstream_id) for thread in threads[:1]]


def _known(thread: Thread) -> Target:
    known = Run.objects.filter(connection=thread.connection, thread=thread, missing_since=None)
    run_id = known.order_by("-created_at").values_list("upstream_id", flat=True).first()
    return Target(thread.upstream_id, run_id or "")


def send(alias: str, wanted: Sequence[Target], *, thread_id: str = "", is_outage: bool = False) -> Reach:
    """Requests the targets in turn until the result is conclusive. Does not use the database.

    `thread_id` is the thread of the error. With `is_outage`, it only checks whether the server responds.
    """
    thread_is_gone = others_are_gone = False
    responds = not is_outage  # Any other error is itself a response of the server.
    for target in wanted:
        try:
            gateway.probe(alias, target.thread_id, target.run_id)
        except NotFound as error:
            responds = True
            thread_is_gone = thread_is_gone or target == Target(thread_id)
            others_are_gone = others_are_gone or target.thread_id != thread_id
            if not is_outage and not names_the_target(error, target):
                continue
        except (Forbidden, Rejected):
            responds = True
        except InvalidId:  # The run or thread was mirrored before ids were checked.
            continue
        except UpstreamError as error:
            responds = responds or not error.is_outage
            return Reach(responds, error=error)
        return Reach(True, True, thread_is_gone)
    return Reach(responds, False, thread_is_gone, others_are_gone)


def names_the_target(error: NotFound, target: Target) -> bool:
    """Whether a 404 names this run or thread, and not just a URL with its id. If so, the API itself is there."""
    words = str(error)
    return any(wanted and wanted in words and f"/{wanted}" not in words for wanted in (target.run_id, target.thread_id))


def reach_of(thread: Thread, error: UpstreamError) -> Reach:
    """Probes how far an error in this thread reaches."""
    wanted = targets(thread)
    try:
        connections.wait_for_slots(thread.connection_settings, len(wanted), interactive=True)
    except NoSlot as busy:
        return Reach(responds=True, error=busy)
    return send(thread.connection, wanted, thread_id=thread.upstream_id, is_outage=error.is_outage)


# --- What the result means


@dataclass(frozen=True)
class Conclusion:
    """What an error means once it is known how far it reaches. If that is not certain, `error` says why."""

    effect: ConnectionEffect = NO_EFFECT
    run_is_missing: bool = False
    thread_is_missing: bool = False
    error: UpstreamError | None = None


def conclude(upstream_id: str, error: UpstreamError, reach: Reach) -> Conclusion:
    """What `error` means, given what the probes found. `upstream_id` is the run or thread that was requested."""
    if isinstance(reach.error, NoSlot):
        return Conclusion(error=reach.error)
    effect = NO_EFFECT if reach.error is None else gateway.effect_of(reach.error)
    if not reach.responds:
        return Conclusion(replace(effect, hold=Hold.UNREACHABLE, detail=f"No request gets through. {error}"))
    if not isinstance(error, NotFound):
        return Conclusion(effect)
    if reach.error is not None:
        return Conclusion(effect, error=reach.error)
    if reach.is_all_gone:
        detail = f"The server returned 404 for {upstream_id} and for every run or thread that was probed: {error}"
        return Conclusion(ConnectionEffect(hold=Hold.NOT_FOUND, detail=detail))
    return Conclusion(run_is_missing=True, thread_is_missing=reach.thread_is_gone)


def find_out(thread: Thread, upstream_id: str, error: UpstreamError) -> Conclusion:
    """Probes how far an error reaches, and stores what it means for the connection."""
    conclusion = conclude(upstream_id, error, reach_of(thread, error))
    connections.store_effect(thread.connection, conclusion.effect)
    return conclusion


# --- Held connections


def probe_held() -> None:
    """Probes held connections that are due, and releases those that work again.

    Only an operator releases an operator's hold, and only a successful write (`edits.process_due`) releases held
    writing.
    """
    for row in connections.held().exclude(hold__in=(Hold.NONE, Hold.OPERATOR, Hold.WRITING)):
        if connections.claim_probe(row):
            _probe(row)


def probe_now(alias: str) -> None:
    """Probes a held connection at once, for a command that is about to use it."""
    row = connections.held().filter(alias=alias).exclude(hold__in=(Hold.NONE, Hold.OPERATOR)).first()
    if row is not None:
        ConnectionState.objects.filter(alias=alias, hold=row.hold).update(next_probe_at=clock.now())
        if row.hold != Hold.WRITING:
            _probe(row)


def _probe(row: ConnectionState) -> None:
    wanted = known_targets(row.alias)
    try:
        connections.wait_for_slots(conf.connection(row.alias), max(1, len(wanted)), interactive=True)
    except NoSlot:
        return
    reach = send(row.alias, wanted, is_outage=row.hold == Hold.UNREACHABLE)
    if _works_again(row, reach):
        logger.info("Connection %s works again.", row.alias)
        connections.release(row.alias)
        if reach.error is not None:
            connections.apply_error(row.alias, reach.error)
    elif row.hold == Hold.NOT_FOUND and reach.is_all_gone:
        ConnectionState.objects.filter(alias=row.alias, hold=Hold.NOT_FOUND).update(
            hold=Hold.RETIRED,
            hold_detail="Every known run returned 404, twice. The service seems to have been shut down permanently; "
            "the mirror remains as an archive.",
        )


def _works_again(row: ConnectionState, reach: Reach) -> bool:
    match row.hold:
        case Hold.NOT_FOUND | Hold.RETIRED:
            return reach.knows
        case Hold.UNREACHABLE:
            return reach.responds
        case _:  # Credentials and redirects: a 404 shows that the credentials are accepted.
            return reach.responds and reach.error is None
