"""What all processes share about a connection: its pace, and whether it is held."""

import datetime as dt
import logging
import time

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet

from runsadmin import conf
from runsadmin.errors import Busy, Forbidden, Held, NotFound, UpstreamError
from runsadmin.models import ConnectionState, Run, Thread
from runsadmin.services import clock, permissions
from runsadmin.upstream import limiter
from runsadmin.upstream.client import Client

logger = logging.getLogger(__name__)

PROBE_EVERY = dt.timedelta(seconds=30)
PROBES = 3
# Whoever waits for a place holds a claim: longer than this is not waited but come back for.
LONGEST_WAIT = dt.timedelta(seconds=5)

# Seconds. After a stall (of the database, say) all who waited would call at once: who is later takes another place.
PLACE_LASTS = 1.0

Hold = ConnectionState.Hold


def client(alias: str) -> Client:
    """Raises UnknownConnection."""
    return Client(conf.connection(alias))


def state(alias: str) -> ConnectionState:
    found, _ = ConnectionState.objects.get_or_create(alias=alias)
    return found


def is_held(alias: str) -> bool:
    """Whether nothing may be sent now: the setting, an operator, or what the server answered."""
    return conf.hold() or ConnectionState.objects.filter(alias=alias).exclude(hold=Hold.NONE).exists()


def open_aliases() -> list[str]:
    """The connections that are configured and may be called now."""
    if conf.hold():
        return []
    shut = set(ConnectionState.objects.exclude(hold=Hold.NONE).values_list("alias", flat=True))
    return [alias for alias in conf.connections() if alias not in shut]


def held() -> QuerySet[ConnectionState]:
    """The connections that wait for a person, to be told on every page."""
    return ConnectionState.objects.exclude(hold=Hold.NONE).filter(alias__in=conf.connections()).order_by("alias")


def wait_for_places(alias: str, places: int, *, person: bool = False) -> None:
    """Returns when `places` requests may be sent to this connection, one right after the other.

    Raises Busy when that is too far away to be waited for: nothing was taken then.
    """
    while True:
        at = take_places(alias, places, person=person)
        due = time.monotonic() + (at - clock.now()).total_seconds()
        time.sleep(max(0.0, due - time.monotonic()))
        was_told_to_wait = at < (not_before(alias) or at)  # Somebody was told to slow down in the meantime.
        if not was_told_to_wait and time.monotonic() - due <= PLACE_LASTS:
            return


def wait_for_a_probe(alias: str) -> None:
    """One place for a look that tells what a 404 means. Whoever needs to know holds a claim: it overtakes the work.

    Raises Busy.
    """
    wait_for_places(alias, 1, person=True)


def take_places(alias: str, places: int, *, person: bool = False) -> dt.datetime:
    """Takes neighbouring places for so many requests, and returns when the first may be sent. Raises Busy."""
    connection = conf.connection(alias)
    if not connection.requests_per_minute:
        now = clock.now()
        return _soon(max(not_before(connection.alias) or now, now), now)
    state(connection.alias)
    with transaction.atomic(durable=True):
        row = ConnectionState.objects.select_for_update().get(alias=connection.alias)
        now = clock.now()  # Only now: who waited for the row would get a place in the past.
        lanes = limiter.Lanes(row.people_free_at, row.work_free_at)
        at, lanes = limiter.take(
            lanes,
            places=places,
            requests_per_minute=connection.requests_per_minute,
            person=person,
            now=max(row.not_before or now, now),
        )
        _soon(at, now)
        row.people_free_at, row.work_free_at = lanes.people, lanes.work
        row.save(update_fields=["people_free_at", "work_free_at"])
    return at


def work_per_second(alias: str) -> float | None:
    """How many requests a second all processes together may make for bulk edits and syncs. None: no limit."""
    requests_per_minute = conf.connection(alias).requests_per_minute
    return limiter.work_per_second(requests_per_minute) if requests_per_minute else None


def _soon(at: dt.datetime, now: dt.datetime) -> dt.datetime:
    if at - now > LONGEST_WAIT:
        raise Busy("The connection is busy, or was asked to slow down.", retry_after=(at - now).total_seconds())
    return at


def not_before(alias: str) -> dt.datetime | None:
    return ConnectionState.objects.filter(alias=alias).values_list("not_before", flat=True).first()


def is_resting(alias: str) -> bool:
    """Whether the server has asked to be left alone for a while."""
    until = not_before(alias)
    return until is not None and until > clock.now()


def slow_down(alias: str, error: UpstreamError) -> None:
    """429 and 503 are said to one request and meant for all: nobody calls before the server's time is over."""
    state(alias)
    until = clock.now() + dt.timedelta(seconds=1.0 if error.retry_after is None else error.retry_after)
    ConnectionState.objects.filter(alias=alias).exclude(not_before__gte=until).update(not_before=until)


def hold(alias: str, why: ConnectionState.Hold, detail: str) -> None:
    """Stops all sending on this connection. What is held already stays held for its first reason."""
    state(alias)
    now = clock.now()
    held_now = ConnectionState.objects.filter(alias=alias, hold=Hold.NONE).update(
        hold=why, hold_detail=detail, held_since=now, next_probe_at=now + PROBE_EVERY
    )
    if held_now:
        logger.warning("Connection %s is held: %s", alias, detail)


def switch(alias: str, *, on: bool, actor: User) -> None:
    """An operator's switch: holds a connection, or releases it whatever held it. Raises NotAllowed."""
    permissions.require(actor, permissions.Action.HOLD)
    conf.connection(alias)
    if on:
        release(alias)
        hold(alias, Hold.OPERATOR, f"{actor.get_username()} stopped all sending.")
    else:
        release(alias)


def release(alias: str) -> None:
    ConnectionState.objects.filter(alias=alias).update(
        hold=Hold.NONE, hold_detail="", held_since=None, next_probe_at=None
    )


def probe_held() -> None:
    """Tries held connections again whose time has come, and releases those that answer.

    What an operator holds is released by an operator only.
    """
    now = clock.now()
    for row in held().exclude(hold=Hold.OPERATOR).filter(next_probe_at__lte=now):
        claimed = ConnectionState.objects.filter(alias=row.alias, next_probe_at=row.next_probe_at).update(
            next_probe_at=now + PROBE_EVERY
        )
        if claimed:
            _probe(row)


def _probe(row: ConnectionState) -> None:
    try:
        anything_answers = answers_for_a_known_run(row.alias)
    except UpstreamError:
        return  # Credentials still refused, or no clear answer: it stays as it is.
    if anything_answers:
        logger.info("Connection %s answers again.", row.alias)
        release(row.alias)
    elif row.hold == Hold.NOT_FOUND:
        ConnectionState.objects.filter(alias=row.alias, hold=Hold.NOT_FOUND).update(
            hold=Hold.RETIRED,
            hold_detail="Every known run answered 404, twice. The service seems to be gone for good; "
            "what is mirrored here is an archive.",
        )


def answers_for_a_known_run(alias: str, *, apart_from: Run | None = None) -> bool:
    """Whether the server still knows anything that it knew before: asked when something answers 404.

    Looks at a few runs of other threads. With nothing else to ask for, nothing is known, which counts as no.
    Raises UpstreamError when there was neither an answer nor a 404; Busy when there is no place to ask.
    """
    known = Run.objects.filter(connection=alias, missing_since=None)
    threads = Thread.objects.filter(connection=alias, missing_since=None).order_by("-checked_at", "-id")
    if apart_from is not None:
        threads = threads.exclude(pk=apart_from.thread_id)
    asked = client(alias)
    for thread in threads[:PROBES]:
        wait_for_a_probe(alias)
        run = known.filter(thread=thread).order_by("-created_at").first()
        try:
            if run is None:
                asked.retrieve_thread(thread.upstream_id)
            else:
                asked.retrieve_run(thread.upstream_id, run.upstream_id)
        except NotFound:
            continue
        return True
    return False


def judge(alias: str, error: UpstreamError) -> None:
    """What an error means for the connection as a whole."""
    if error.slow_down:
        slow_down(alias, error)
    if isinstance(error, Held | Forbidden) or error.redirect:
        hold(alias, Hold.REDIRECTED if error.redirect else Hold.CREDENTIALS, why_held(error))


def why_held(error: UpstreamError) -> str:
    """What a person is told about a connection that this error holds."""
    if error.redirect:
        return str(error)
    if error.http_status is None:  # There are no credentials to send.
        return str(error)
    return f"The server refuses the credentials ({error.http_status}): {error}"
