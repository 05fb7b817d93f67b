"""What all processes share about a connection: its pace, and whether it is held."""

import datetime as dt
import logging
import time

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Least

from runsadmin import conf
from runsadmin.errors import ConnectionHeld, NoSlot, UpstreamError
from runsadmin.models import ConnectionState
from runsadmin.models.connection_state import FRESH_LIST_ITEMS
from runsadmin.services import clock, permissions
from runsadmin.upstream import limiter
from runsadmin.upstream.client import Client

logger = logging.getLogger(__name__)

PROBE_EVERY = dt.timedelta(seconds=30)
# Seconds. For a 429 or 503 that does not say how long to wait.
SLOW_DOWN = 1.0
# An outage mostly ends soon, and a refused connection costs nothing.
PROBE_OUTAGE_EVERY = dt.timedelta(seconds=5)
# While writing is refused, one edit is tried this often. Nothing else is written to find out.
TRY_WRITING_EVERY = dt.timedelta(minutes=5)
# Whoever waits for a place holds a claim: longer than this is not waited but come back for.
LONGEST_WAIT = dt.timedelta(seconds=5)

# Seconds. After a stall (of the database, say) all who waited would call at once: who is later takes another place.
MAX_SLOT_LATENESS = 1.0

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


def available_aliases() -> list[str]:
    """The connections that are configured and may be read from now. On some of them writing may be held."""
    if conf.hold():
        return []
    shut = set(ConnectionState.objects.exclude(hold__in=(Hold.NONE, Hold.WRITING)).values_list("alias", flat=True))
    return [alias for alias in conf.connections() if alias not in shut]


def hold_reason(alias: str) -> str:
    """Why nothing may be sent now, in a sentence. Empty: it may."""
    if conf.hold():
        return "All sending is stopped by the setting RUNSADMIN_HOLD."
    held_now = ConnectionState.objects.filter(alias=alias).exclude(hold=Hold.NONE).first()
    return f"The connection {alias} is held. {held_now.hold_detail}".rstrip() if held_now else ""


def is_unreachable(alias: str) -> bool:
    """Whether it is held by an outage, which mostly ends without anybody's help."""
    return not conf.hold() and ConnectionState.objects.filter(alias=alias, hold=Hold.UNREACHABLE).exists()


def is_writing_held(alias: str) -> bool:
    """Whether reading goes on and only writing is held."""
    return not conf.hold() and ConnectionState.objects.filter(alias=alias, hold=Hold.WRITING).exists()


def held() -> QuerySet[ConnectionState]:
    """The connections that wait for a person, to be told on every page."""
    return ConnectionState.objects.exclude(hold=Hold.NONE).filter(alias__in=conf.connections()).order_by("alias")


def wait_for_slots(alias: str, slots: int, *, interactive: bool = False) -> None:
    """Returns when `places` requests may be sent to this connection, one right after the other.

    Raises Busy when that is too far away to be waited for: nothing was taken then.
    """
    while True:
        at = take_slots(alias, slots, interactive=interactive)
        due = time.monotonic() + (at - clock.now()).total_seconds()
        time.sleep(max(0.0, due - time.monotonic()))
        was_told_to_wait = at < (not_before(alias) or at)  # Somebody was told to slow down in the meantime.
        if not was_told_to_wait and time.monotonic() - due <= MAX_SLOT_LATENESS:
            return


def take_slots(alias: str, slots: int, *, interactive: bool = False) -> dt.datetime:
    """Takes neighbouring places for so many requests, and returns when the first may be sent. Raises Busy."""
    connection = conf.connection(alias)
    if not connection.requests_per_minute:
        now = clock.now()
        return _soon(max(not_before(connection.alias) or now, now), now)
    state(connection.alias)
    with transaction.atomic(durable=True):
        row = ConnectionState.objects.select_for_update().get(alias=connection.alias)
        now = clock.now()  # Only now: who waited for the row would get a place in the past.
        lanes = limiter.Lanes(row.interactive_free_at, row.background_free_at)
        at, lanes = limiter.take(
            lanes,
            slots=slots,
            requests_per_minute=connection.requests_per_minute,
            is_interactive=interactive,
            now=max(row.not_before or now, now),
        )
        _soon(at, now)
        row.interactive_free_at, row.background_free_at = lanes.interactive, lanes.background
        row.save(update_fields=["interactive_free_at", "background_free_at"])
    return at


def background_per_second(alias: str) -> float | None:
    """How many requests a second all processes together may make for bulk edits and syncs. None: no limit."""
    requests_per_minute = conf.connection(alias).requests_per_minute
    return limiter.background_per_second(requests_per_minute) if requests_per_minute else None


def _soon(at: dt.datetime, now: dt.datetime) -> dt.datetime:
    if at - now > LONGEST_WAIT:
        raise NoSlot("The connection is busy, or was asked to slow down.", retry_after=(at - now).total_seconds())
    return at


def not_before(alias: str) -> dt.datetime | None:
    return ConnectionState.objects.filter(alias=alias).values_list("not_before", flat=True).first()


def is_backing_off(alias: str) -> bool:
    """Whether the server has asked to be left alone for a while."""
    until = not_before(alias)
    return until is not None and until > clock.now()


def pause_after(error: UpstreamError) -> float:
    """For how many seconds a server that wants fewer calls is left alone."""
    return SLOW_DOWN if error.retry_after is None else error.retry_after


def slow_down(alias: str, error: UpstreamError) -> None:
    """429 and 503 are said to one request and meant for all: nobody calls before the server's time is over."""
    state(alias)
    until = clock.now() + dt.timedelta(seconds=pause_after(error))
    ConnectionState.objects.filter(alias=alias).exclude(not_before__gte=until).update(not_before=until)


def hold(alias: str, why: ConnectionState.Hold, detail: str) -> None:
    """Stops all sending on this connection; for WRITING, all writing.

    What is held already stays held for its first reason, but for writing: that reading is refused too is wider.
    """
    state(alias)
    now = clock.now()
    narrower = (Hold.NONE,) if why == Hold.WRITING else (Hold.NONE, Hold.WRITING)
    held_now = ConnectionState.objects.filter(alias=alias, hold__in=narrower).update(
        hold=why, hold_detail=detail, held_since=now, next_probe_at=now + _probe_every(why)
    )
    if held_now:
        logger.warning("Connection %s is held: %s", alias, detail)


def _probe_every(why: str) -> dt.timedelta:
    match why:
        case Hold.UNREACHABLE:
            return PROBE_OUTAGE_EVERY
        case Hold.WRITING:
            return TRY_WRITING_EVERY
        case _:
            return PROBE_EVERY


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
    ConnectionState.objects.filter(alias=alias).update(**_RELEASED)


def release_writing(alias: str) -> bool:
    """After a write that succeeded. Returns whether writing was held."""
    released = ConnectionState.objects.filter(alias=alias, hold=Hold.WRITING).update(**_RELEASED)
    if released:
        logger.info("Connection %s takes writes again.", alias)
    return bool(released)


_RELEASED = {"hold": Hold.NONE, "hold_detail": "", "held_since": None, "next_probe_at": None}


def take_probe(row: ConnectionState) -> bool:
    """Whether a held connection is to be tried now, by this process."""
    now = clock.now()
    if row.next_probe_at is None or row.next_probe_at > now:
        return False
    claimed = ConnectionState.objects.filter(alias=row.alias, hold=row.hold, next_probe_at=row.next_probe_at)
    return bool(claimed.update(next_probe_at=now + _probe_every(row.hold)))


def judge(alias: str, error: UpstreamError, *, writing: bool = False) -> None:
    """What an error means for the connection as a whole, as far as this one response shows it."""
    if error.slow_down:
        slow_down(alias, error)
    if error.redirect:
        hold(alias, Hold.REDIRECTED, why_held(error))
    elif isinstance(error, ConnectionHeld):
        # The same credentials were accepted by the fetch a moment ago: what is refused is the write.
        hold(alias, Hold.WRITING if writing else Hold.CREDENTIALS, why_held(error))


def why_held(error: UpstreamError) -> str:
    """What a person is told about a connection that this error holds."""
    if error.redirect or error.http_status is None:  # Without a status there are no credentials to send.
        return str(error)
    return f"The server refuses the credentials ({error.http_status}): {error}"


def hold_for_outage(alias: str, error: UpstreamError) -> None:
    hold(alias, Hold.UNREACHABLE, f"No request gets through. {error}")


# --- Lists in place of GETs


def lists_are_fresh(alias: str) -> bool:
    """Whether a list shows runs as they are now, so that it may replace a GET of each: vouched for, or proven.

    One list that showed a run older than it was ends both.
    """
    known = ConnectionState.objects.filter(alias=alias).first() or ConnectionState(alias=alias)
    return known.lists_are_proven or (known.stale_list_at is None and conf.connection(alias).lists_are_fresh)


def note_fresh_list(alias: str, items: int) -> None:
    """A list showed this many of our own writes of the last second."""
    state(alias)
    row = ConnectionState.objects.filter(alias=alias, fresh_list_items__lt=FRESH_LIST_ITEMS)
    row.update(fresh_list_items=Least(F("fresh_list_items") + items, FRESH_LIST_ITEMS))


def note_stale_list(alias: str, detail: str) -> None:
    """From now on runs of this connection are fetched one by one."""
    state(alias)
    found = ConnectionState.objects.filter(alias=alias, stale_list_at=None).update(
        stale_list_at=clock.now(), stale_list_detail=detail, fresh_list_items=0
    )
    if found:
        logger.warning("Connection %s: %s Runs are fetched one by one from now on.", alias, detail)
