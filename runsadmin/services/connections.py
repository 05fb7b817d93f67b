"""What all processes share about a connection: its rate, back-off and hold."""

import datetime as dt
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Least

from runsadmin import conf
from runsadmin.errors import NoSlot, UpstreamError
from runsadmin.models import ConnectionState
from runsadmin.models.connection_state import FRESH_LIST_ITEMS
from runsadmin.services import clock, gateway, permissions
from runsadmin.services.gateway import ConnectionEffect

logger = logging.getLogger(__name__)

PROBE_EVERY = dt.timedelta(seconds=30)
# Most outages are short, and an attempt to connect costs little.
PROBE_OUTAGE_EVERY = dt.timedelta(seconds=5)
# While writing is held, one edit is sent this often to check whether writes are accepted again.
TRY_WRITING_EVERY = dt.timedelta(minutes=5)
# This share of a connection's requests per minute is reserved for interactive edits.
INTERACTIVE_SHARE = 0.1
# A caller's claim could expire during a longer wait, so the caller retries later instead.
MAX_SLOT_WAIT = dt.timedelta(seconds=5)
# In seconds. After a stall, for example of the database, all waiting processes would send at once, so a process that is
# later than this takes a new slot.
MAX_SLOT_LATENESS = 1.0

Hold = ConnectionState.Hold


def state(alias: str) -> ConnectionState:
    found, _ = ConnectionState.objects.get_or_create(alias=alias)
    return found


# --- Holds


def available_aliases() -> list[str]:
    """The connections on which requests may be sent now. Writing may be held on some of them."""
    if conf.hold():
        return []
    held_aliases = set(
        ConnectionState.objects.exclude(hold__in=(Hold.NONE, Hold.WRITING)).values_list("alias", flat=True)
    )
    return [alias for alias in conf.upstreams() if alias not in held_aliases]


def missing_upstream(alias: str) -> str:
    """Completes "Waits for …" for work on a connection without an upstream. Empty if it has one."""
    return "" if alias in conf.upstreams() else f"the connection {alias} to be configured with an upstream again"


def hold_reason(alias: str, *, is_write: bool = True, row: ConnectionState | None = None) -> str:
    """Why no request may be sent now, as a sentence; otherwise empty. If only writing is held, reads may be sent."""
    if conf.hold():
        return "All sending is stopped by the setting RUNSADMIN_HOLD."
    if alias in conf.archives():
        return f"The connection {alias} is an archive: nothing is sent on it."
    row = row or ConnectionState.objects.filter(alias=alias).first()
    if row is None or (row.only_writing_is_held and not is_write):
        return ""
    if row.hold == Hold.NONE and row.restored_from is None:
        return ""
    return f"The connection {alias} is held. {why_held(row)}".rstrip()


def why_held(row: ConnectionState) -> str:
    """Why a connection is held, as stored with it. After a restore, any other hold is named first."""
    if row.hold != Hold.NONE or row.restored_from is None:
        return str(row.hold_detail)
    return (
        f"A backup of {row.restored_from:%Y-%m-%d %H:%M:%S} UTC was restored, and upstream may have newer values. "
        "Nothing is sent until a user releases the connection."
    )


_IS_HELD = ~Q(hold=Hold.NONE) | Q(restored_from__isnull=False)


def is_held(alias: str) -> bool:
    return conf.hold() or ConnectionState.objects.filter(_IS_HELD, alias=alias).exists()


def is_unreachable(alias: str) -> bool:
    """Whether the connection is held because of an outage. Most outages end without intervention."""
    return not conf.hold() and ConnectionState.objects.filter(alias=alias, hold=Hold.UNREACHABLE).exists()


def held() -> QuerySet[ConnectionState]:
    """The held connections, also those held since a restore. Every page shows them."""
    return ConnectionState.objects.filter(_IS_HELD, alias__in=conf.upstreams()).order_by("alias")


def hold_restored(aliases: Iterable[str], made_at: dt.datetime) -> None:
    """Holds these connections, because a backup of this time was restored. Only users release them."""
    for alias in aliases:
        state(alias)
        ConnectionState.objects.filter(alias=alias).update(restored_from=made_at)


def release_restored(alias: str, *, actor: User) -> None:
    """Releases a connection after a backup was restored. Edits from the backup are released one by one.

    Raises NotAllowed, UnknownConnection or ReadOnlyConnection.
    """
    permissions.require(actor, permissions.Action.HOLD)
    conf.upstream(alias)
    if ConnectionState.objects.filter(alias=alias, restored_from__isnull=False).update(restored_from=None):
        logger.warning("%s released the connection %s after a restore.", actor.get_username(), alias)


def hold(alias: str, why: ConnectionState.Hold, detail: str) -> None:
    """Stops all sending on this connection; with WRITING, only writes.

    An existing hold stays, unless it is WRITING and the new one is not.
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


def set_hold(alias: str, *, on: bool, actor: User) -> None:
    """Holds a connection for an operator, or releases it from any hold.

    Raises NotAllowed, UnknownConnection or ReadOnlyConnection.
    """
    permissions.require(actor, permissions.Action.HOLD)
    conf.upstream(alias)
    release(alias)
    if on:
        hold(alias, Hold.OPERATOR, f"{actor.get_username()} stopped all sending.")


def release(alias: str) -> None:
    ConnectionState.objects.filter(alias=alias).update(**RELEASED)


RELEASED = {"hold": Hold.NONE, "hold_detail": "", "held_since": None, "next_probe_at": None}


def claim_probe(row: ConnectionState) -> bool:
    """Claims a due probe of a held connection. Returns whether this process should send it."""
    now = clock.now()
    if row.next_probe_at is None or row.next_probe_at > now:
        return False
    claimed = ConnectionState.objects.filter(alias=row.alias, hold=row.hold, next_probe_at=row.next_probe_at)
    return bool(claimed.update(next_probe_at=now + _probe_every(row.hold)))


# --- What a response means for the connection


def apply_error(alias: str, error: UpstreamError, *, is_write: bool = False) -> None:
    store_effect(alias, gateway.effect_of(error, is_write=is_write))


def store_effect(alias: str, effect: ConnectionEffect) -> None:
    if effect.back_off is not None:
        _back_off(alias, effect.back_off)
    if effect.hold != Hold.NONE:
        hold(alias, effect.hold, effect.detail)


def _back_off(alias: str, seconds: float) -> None:
    """Keeps all processes from sending for this long: a 429 or 503 concerns the connection, not only one request."""
    state(alias)
    until = clock.now() + dt.timedelta(seconds=seconds)
    ConnectionState.objects.filter(alias=alias).exclude(not_before__gte=until).update(not_before=until)


def not_before(alias: str) -> dt.datetime | None:
    return ConnectionState.objects.filter(alias=alias).values_list("not_before", flat=True).first()


def is_backing_off(alias: str) -> bool:
    until = not_before(alias)
    return until is not None and until > clock.now()


# --- The rate


def wait_for_slots(connection: conf.Connection, slots: int, *, interactive: bool = False) -> None:
    """Waits until this many requests may be sent to the connection, one right after the other.

    Raises NoSlot if that would take too long.
    """
    while True:
        at = take_slots(connection, slots, interactive=interactive)
        due = time.monotonic() + (at - clock.now()).total_seconds()
        time.sleep(max(0.0, due - time.monotonic()))
        # Another process may have received a 429 by now. This query may stall, so check the time after it.
        if at >= (not_before(connection.alias) or at) and time.monotonic() - due <= MAX_SLOT_LATENESS:
            return


def take_slots(connection: conf.Connection, slots: int, *, interactive: bool = False) -> dt.datetime:
    """Takes consecutive slots, and returns the time of the first. Raises NoSlot if that is too far in the future."""
    if not connection.requests_per_minute:
        now = clock.now()
        return _check_wait(max(not_before(connection.alias) or now, now), now)
    state(connection.alias)
    with transaction.atomic(durable=True):
        row = ConnectionState.objects.select_for_update().get(alias=connection.alias)
        now = clock.now()  # Read the clock after locking, or the slot could be in the past.
        at, free_at = take(
            FreeAt(row.interactive_free_at, row.background_free_at),
            connection,
            slots,
            interactive=interactive,
            now=max(row.not_before or now, now),
        )
        _check_wait(at, now)
        row.interactive_free_at, row.background_free_at = free_at.interactive, free_at.background
        row.save(update_fields=["interactive_free_at", "background_free_at"])
    return at


@dataclass(frozen=True)
class FreeAt:
    """When the rate limit permits the next interactive and the next background request. None means now."""

    interactive: dt.datetime | None
    background: dt.datetime | None


def take(
    free_at: FreeAt, connection: conf.Connection, slots: int, *, interactive: bool, now: dt.datetime
) -> tuple[dt.datetime, FreeAt]:
    """Takes consecutive slots. Returns the time of the first, and when the next slots are free.

    Interactive edits take whichever slots are free first; background work takes only background slots.
    """
    interactive_at, background_at = max(free_at.interactive or now, now), max(free_at.background or now, now)
    if interactive and interactive_at <= background_at:
        return interactive_at, FreeAt(interactive_at + slots * connection.interval / INTERACTIVE_SHARE, background_at)
    return background_at, FreeAt(interactive_at, background_at + slots * connection.interval / (1 - INTERACTIVE_SHARE))


def background_per_second(connection: conf.Connection) -> float | None:
    """How many requests per second all processes together may send for bulk edits and syncs. None means no limit."""
    return connection.requests_per_minute / 60 * (1 - INTERACTIVE_SHARE) if connection.requests_per_minute else None


def _check_wait(at: dt.datetime, now: dt.datetime) -> dt.datetime:
    if at - now > MAX_SLOT_WAIT:
        raise NoSlot(
            "The connection is busy, or upstream asked for fewer requests.", retry_after=(at - now).total_seconds()
        )
    return at


# --- Lists instead of GETs


def lists_are_fresh(alias: str, *, row: ConnectionState | None = None) -> bool:
    """Whether a list may replace the GETs of its runs: because lists are configured as fresh, or have proven to be.

    Never after a list has been stale.
    """
    known = row or ConnectionState.objects.filter(alias=alias).first() or ConnectionState(alias=alias)
    return known.lists_are_proven or (known.stale_list_at is None and conf.connection(alias).lists_are_fresh)


def note_fresh_list(alias: str, items: int) -> None:
    """Records that a list showed this many of our own writes of the last second."""
    state(alias)
    row = ConnectionState.objects.filter(alias=alias, fresh_list_items__lt=FRESH_LIST_ITEMS)
    row.update(fresh_list_items=Least(F("fresh_list_items") + items, FRESH_LIST_ITEMS))


def note_stale_list(alias: str, detail: str) -> None:
    """Records that a list was stale. From now on, the runs of this connection are fetched one by one."""
    state(alias)
    found = ConnectionState.objects.filter(alias=alias, stale_list_at=None).update(
        stale_list_at=clock.now(), stale_list_detail=detail, fresh_list_items=0
    )
    if found:
        logger.warning("Connection %s: %s Runs are fetched one by one from now on.", alias, detail)
