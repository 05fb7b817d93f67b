"""Many edits of one connection at once: one thread keeps the books, a pool of threads calls upstream.

The books are kept in blocks. Each turn stores the outcomes that came, commits what the looks led to, and takes up new
edits, all in a few statements; in the meantime the pool never runs dry. One call upstream is one job of the pool, and
no job knows the database.
"""

import datetime as dt
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import partial
from itertools import groupby
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from typing import Self

from django.db import DatabaseError, transaction

from runsadmin import conf
from runsadmin.errors import ConnectionHeld, Forbidden, NoSlot, NotFound, NotSent, OutcomeUnknown, UpstreamError
from runsadmin.models import BulkEdit, ConnectionState, Edit
from runsadmin.models.bulk_edit import IN_PROGRESS
from runsadmin.services import clock, connections, gateway, permissions, probes
from runsadmin.services.clock import ClockBounds
from runsadmin.services.edits import claims, faults, list_freshness, outcomes, pushing, reconciling, refusals, rewrites
from runsadmin.services.edits.claims import Claim
from runsadmin.services.edits.outcomes import Outcome
from runsadmin.services.edits.pushing import Intent
from runsadmin.services.gateway import TimedResponse
from runsadmin.upstream import transport
from runsadmin.upstream.client import Page, Response
from runsadmin.upstream.records import RunRecord

logger = logging.getLogger("runsadmin.services.edits")

# How long the books wait for more outcomes before they store those that came, in seconds.
TURN = 0.05
# How far ahead edits are taken up, in seconds of work: longer, and the looks grow too old.
AHEAD = 0.4
MOST_IN_HAND = 500
# For so many requests under way there is one thread more.
SPARE = 4
# How long a share waits for a server that wants to be left alone, rather than end, in seconds.
LONGEST_REST = 5.0
# After so many attempts that failed an edit's run is looked at alone: lists may fail where single runs do not.
TRIES_BY_LIST = 2
# How often the switches are looked at: holds, pauses, cancels, the server's wish for fewer calls.
SWITCHES = 0.5


def bring_on(alias: str, *, until: float, stopping: Event | None = None) -> int:
    """Pushes and reconciles what is due on a connection, until nothing is or `time.monotonic()` reaches `until`.

    Returns how many edits it took up.
    """

    def may_go_on() -> bool:
        return time.monotonic() < until and not (stopping is not None and stopping.is_set())

    with _Pool(conf.connection(alias).concurrency) as pool:
        books = _Books(alias, pool)
        books.keep(may_go_on)
    return books.taken_up


@dataclass(frozen=True)
class _Look:
    """A job: one call that looks at the runs of these claims, all of one thread."""

    claims: list[Claim]
    after: str = ""

    @property
    def is_lone(self) -> bool:
        return len(self.claims) == 1


@dataclass(frozen=True)
class _Looked:
    """What a look brought: the runs that it found, by their upstream ids, or an error."""

    look: _Look
    found: dict[str, TimedResponse[RunRecord]]
    began: float  # In time.monotonic(), as `at`.
    at: float
    last: str = ""
    error: UpstreamError | None = None
    page: Response[Page] | None = None  # Where it was a list.


@dataclass(frozen=True)
class _Posted:
    intent: Intent
    response: TimedResponse[RunRecord] | UpstreamError
    began: float  # In time.monotonic(), as `at`.
    at: float


@dataclass(frozen=True)
class _Probed:
    """How far a fault reaches, under the key of those that wait to know."""

    key: int
    reach: probes.Reach


@dataclass(frozen=True)
class _Listed:
    """A list that was requested only to see whether it shows our own writes."""

    page: Response[Page] | None


@dataclass(frozen=True)
class _Broken:
    """An error of our own. With `is_unsent` it came before anything was sent."""

    claims: list[Claim]
    error: Exception
    is_unsent: bool = False


type _Result = _Looked | _Posted | _Probed | _Listed | Outcome | _Broken

# The key under which all wait to know whether the server responds at all; others are keys of threads.
_SERVER = 0
# How long what was found out about a thread holds, in seconds.
REACH_LASTS = 5.0


class _Books:
    def __init__(self, alias: str, pool: "_Pool") -> None:
        self.alias = alias
        self.pool = pool
        self.brakes = _Brakes(alias)
        self.pace = _Pace()
        self.clock_bounds = ClockBounds()
        self.done: SimpleQueue[_Result] = SimpleQueue()
        self.in_hand: dict[int, Claim] = {}
        self.probing: dict[int, list[tuple[Claim, UpstreamError]]] = {}
        self.reaches: dict[int, tuple[float, probes.Reach]] = {}
        self.forbidden: list[tuple[Claim, Forbidden]] = []
        self.received_at = 0.0  # When upstream last responded, in time.monotonic().
        self.lists = list_freshness.Evidence(alias)
        self.taken_up = 0
        self.per_second = 0.0
        self.idle_until = 0.0
        self.renew_at = 0.0
        self.block = 2 * conf.connection(alias).concurrency

    def keep(self, may_go_on: Callable[[], bool]) -> None:
        while True:
            self.brakes.look()
            goes_on = may_go_on() and (not self.brakes.shut or self.brakes.writing_is_held)
            self._renew()
            if goes_on and not self.brakes.seconds:
                self._take_up()
            if self.in_hand:
                self._turn()
            elif goes_on and 0 < self.brakes.seconds <= LONGEST_REST:
                time.sleep(min(self.brakes.seconds, SWITCHES))
            else:
                return

    def _renew(self) -> None:
        if time.monotonic() >= self.renew_at:
            claims.renew(self.in_hand.values())
            self.renew_at = time.monotonic() + claims.LEASE.total_seconds() / 3

    # --- Taking up

    def _take_up(self) -> None:
        most = self._most_in_hand()
        room = most - len(self.in_hand)
        if room < max(1, most // 4) or time.monotonic() < self.idle_until:  # In blocks, not one by one.
            return
        self.clock_bounds = ClockBounds()
        taken = claims.claim_due(self.alias, room, only_unknown=self.brakes.writing_is_held)
        if not taken:
            self.idle_until = time.monotonic() + SWITCHES
        self.taken_up += len(taken)
        self.in_hand |= {claim.edit.pk: claim for claim in taken}
        for claim in taken:
            claim.step("reconciling" if claim.is_unknown else "claimed")
        actors = {claim.edit.actor_id: claim.edit.actor for claim in taken}
        allowed = {pk for pk, actor in actors.items() if permissions.may(actor, permissions.Action.EDIT_METADATA)}
        # Only sending needs the right: what may have been sent is looked after in any case.
        barred = [claim for claim in taken if claim.edit.actor_id not in allowed and not claim.is_unknown]
        self._commit([pushing.refuse(claim) for claim in barred])
        others = sorted((claim for claim in taken if claim.edit.pk in self.in_hand), key=_as_upstream_lists)
        for _, of_thread in groupby(others, key=lambda claim: claim.edit.run.thread_id):
            self._begin_looks(list(of_thread))

    def _begin_looks(self, of_thread: list[Claim]) -> None:
        """By one list for all, where lists show runs as they are now and one works; otherwise by a GET of each."""
        by_list = [claim for claim in of_thread if claim.edit.attempts < TRIES_BY_LIST]
        if len(by_list) < 2 or not self.brakes.lists_are_fresh:
            by_list = []
        if by_list:
            self._begin(_Look(by_list))
        in_list = {claim.edit.pk for claim in by_list}
        for claim in of_thread:
            if claim.edit.pk not in in_list:
                self._begin(_Look([claim]))

    def _most_in_hand(self) -> int:
        if (allowed := connections.background_per_second(self.alias)) is not None:
            return max(1, min(MOST_IN_HAND, int(allowed * AHEAD / 2)))
        return max(2 * self.block, min(MOST_IN_HAND, int(self.per_second * AHEAD)))

    def _begin(self, look: _Look) -> None:
        """Takes the places of a look and of the writes that follow it."""
        if per_second := connections.background_per_second(self.alias):
            try:
                at = connections.take_slots(self.alias, 1 + len(look.claims))
            except NoSlot as error:
                self._commit([_of_failed_look(error, claim) for claim in look.claims])
                return
            self.pace.goes_on(after=(at - self.clock_bounds.latest()).total_seconds(), per_second=per_second)
        self.pool.submit(Urgency.LOOK, self._job(look.claims, partial(self._look, look)))

    # --- One turn of the books

    def _turn(self) -> None:
        began = time.monotonic()
        results = self._results(began)
        judged: list[Outcome | Intent] = []
        self.forbidden = []
        for result in results:
            match result:
                case _Posted(intent, response):
                    if isinstance(response, UpstreamError):
                        judged += self._write_failed(result, response)
                    else:
                        self.received_at = result.at
                        self.lists.add_write(intent, response, result.at)
                        judged += self._each([intent.claim], partial(_of_write, intent, response))
                case Outcome():
                    judged.append(result)
                case _Looked():
                    judged += self._judge(result)
                case _Probed(key, reach):
                    self.reaches[key] = (time.monotonic(), reach)
                    for claim, error in self.probing.pop(key):
                        judged += self._after_probes([claim], error, reach)
                case _Listed(page):
                    self._check_list(page, is_sample=True)
                case _Broken(broken, own_error, is_unsent):
                    self._give_up(broken, own_error, is_unsent=is_unsent)
        has_written = any(isinstance(step, Outcome) and step.has_written for step in judged)
        judged += refusals.outcomes_of(self.alias, self.forbidden, has_written=has_written)
        self._commit(
            [step for step in judged if isinstance(step, Outcome)],
            [step for step in judged if isinstance(step, Intent)],
        )
        self.brakes.has_refused = self.brakes.has_refused or bool(self.forbidden)
        if has_written and (self.brakes.has_refused or self.brakes.writing_is_held):
            refusals.note_write(
                self.alias, self.clock_bounds.earliest() - dt.timedelta(seconds=time.monotonic() - began)
            )
        self._sample_list()
        pace = sum(isinstance(result, _Posted) for result in results) / (time.monotonic() - began)
        self.per_second += (pace - self.per_second) / (4 if self.per_second else 1)

    def _results(self, began: float) -> list[_Result]:
        """Those that came. The first is waited for, and more of them until they are worth a turn."""
        results: list[_Result] = []
        with suppress(Empty):
            results.append(self.done.get(timeout=SWITCHES))
            while len(results) < min(len(self.in_hand), self.block):
                results.append(self.done.get(timeout=max(0.0, began + TURN - time.monotonic())))
            while True:
                results.append(self.done.get_nowait())
        return results

    def _judge(self, looked: _Looked) -> Sequence[Outcome | Intent]:
        look = looked.look
        if (error := looked.error) is not None:
            connections.apply_error(self.alias, error)
            if not error.is_outage and error.http_status is not None:
                self.received_at = looked.at
            if isinstance(error, Forbidden):
                return self._refuse_or_wait(look.claims, error)
            if probes.is_needed(error) and not self.received_at > looked.began:
                return self._find_reach(look.claims, error)
            if isinstance(error, NotFound):
                return self._find_reach(look.claims, error)
            return _together(self._each(look.claims, partial(_of_failed_look, error)))
        self.received_at = looked.at
        if looked.page is not None:
            self._check_list(looked.page)
        found = looked.found if looked.page is None or self.brakes.lists_are_fresh else {}
        served = [claim for claim in look.claims if claim.edit.run.upstream_id in found]
        unserved = [claim for claim in look.claims if claim.edit.run.upstream_id not in found]
        if len(served) > 1 and looked.last and unserved:  # The list was worth it: on with its next page.
            self._begin(_Look(unserved, after=looked.last))
        else:
            for claim in unserved:
                self._begin(_Look([claim]))
        return self._each(served, partial(_of_look, looked))

    def _write_failed(self, posted: _Posted, error: UpstreamError) -> list[Outcome]:
        claim = posted.intent.claim
        connections.apply_error(self.alias, error, is_write=True)
        if not error.is_outage and error.http_status is not None:
            self.received_at = posted.at
        if self._may_be_sent_again(posted):
            self._submit(replace(posted.intent, was_refused=True))
            return []
        claim.step("answered")
        if isinstance(error, Forbidden):
            return self._refuse_or_wait([claim], error)
        if isinstance(error, NotFound) or (
            probes.is_needed(error) and not isinstance(error, OutcomeUnknown) and not self.received_at > posted.began
        ):
            return self._find_reach([claim], error)
        return self._each([claim], partial(_of_failed_write, error))

    def _refuse_or_wait(self, of: list[Claim], error: Forbidden) -> list[Outcome]:
        """Refused edits are judged together, at the end of the turn. What may have been sent stays unknown."""
        self.forbidden += [(claim, error) for claim in of if not claim.is_unknown]
        return self._each([claim for claim in of if claim.is_unknown], partial(_of_failed_look, error))

    def _find_reach(self, of: list[Claim], error: UpstreamError) -> list[Outcome]:
        """Has the pool find out how far a fault reaches, once for all that meet it in this thread, or anywhere."""
        key = of[0].edit.run.thread_id if isinstance(error, NotFound) else _SERVER
        known_at, reach = self.reaches.get(key, (-REACH_LASTS, None))
        if reach is not None and reach.error is None and time.monotonic() - known_at < REACH_LASTS:
            return self._after_probes(of, error, reach)
        if waiting := self.probing.get(key):
            waiting += [(claim, error) for claim in of]
            return []
        thread = of[0].edit.run.thread
        wanted = probes.targets(thread)
        try:
            at = connections.take_slots(self.alias, len(wanted), interactive=True)
        except NoSlot as busy:
            return self._each(of, partial(_of_failed_look, busy))
        self.probing[key] = [(claim, error) for claim in of]
        pause = (at - self.clock_bounds.latest()).total_seconds()
        probe = partial(self._probe, key, thread.upstream_id, wanted, error, pause)
        self.pool.submit(Urgency.LONE_POST, self._job(of, probe))
        return []

    def _after_probes(self, of: list[Claim], error: UpstreamError, reach: probes.Reach) -> list[Outcome]:
        if of:
            effect = probes.conclude(of[0].edit.run, error, reach).effect
            connections.store_effect(self.alias, effect)
        return self._each(
            of, lambda claim: faults.after_probes(claim, error, probes.conclude(claim.edit.run, error, reach))
        )

    # --- Whether lists are fresh

    def _check_list(self, page: Response[Page] | None, *, is_sample: bool = False) -> None:
        """Compares a list with our own last writes."""
        if is_sample:
            self.lists.is_requested = False
        if page is None:
            return
        if stale := self.lists.compare(page):
            connections.note_stale_list(self.alias, stale)
            self.brakes.lists_are_fresh = self.brakes.lists_may_prove = False
        elif is_sample:
            self.brakes.lists_are_fresh = self.lists.is_proven

    def _sample_list(self) -> None:
        """Requests a list right after our own writes, where lists may still prove that they show them."""
        if not self.brakes.lists_may_prove or (sample := self.lists.next_sample()) is None:
            return
        with suppress(NoSlot):
            connections.take_slots(self.alias, 1)
            self.lists.is_requested = True
            self.pool.submit(Urgency.LONE_POST, self._job([], partial(self._list, sample)))

    def _each[T](self, of: list[Claim], judge: Callable[[Claim], T]) -> list[T]:
        """An error of our own in one of them leaves the others alone."""
        judged: list[T] = []
        for claim in of:
            try:
                judged.append(judge(claim))
            except DatabaseError:
                raise
            except Exception as error:  # noqa: BLE001 - it is told, and counted.
                self._give_up([claim], error)
        return judged

    def _commit(self, ended: list[Outcome], intents: Sequence[Intent] = ()) -> None:
        """All at once, and what is to be sent ahead of sending it."""
        if not ended and not intents:
            return
        kept = outcomes.Kept(ended)
        with transaction.atomic(durable=True):
            ready = pushing.intend(intents)
            sent = {intent.claim.edit.pk for intent in ready}
            late = [intent.claim for intent in intents if intent.claim.edit.pk not in sent]
            if late:
                claims.release(claims.rows(late))
            kept.write()
        for intent in ready:
            intent.claim.step("intended")
            self._submit(intent)
        kept.tell()
        self._let_go([*late, *(outcome.claim for outcome in ended)])

    def _let_go(self, of: Sequence[Claim]) -> None:
        for claim in of:
            self.in_hand.pop(claim.edit.pk, None)

    def _submit(self, intent: Intent) -> None:
        urgency = Urgency.LONE_POST if intent.has_slot else Urgency.POST
        self.pool.submit(urgency, self._job([intent.claim], partial(self._post, intent)))

    def _may_be_sent_again(self, posted: _Posted) -> bool:
        """Whether it was refused for now, once, and the look that it is for is still a fresh one afterwards."""
        refused = isinstance(posted.response, NotSent) and posted.response.slow_down
        has_limit = (
            connections.background_per_second(self.alias) is not None
        )  # It would take a place that nobody gave it.
        if not refused or posted.intent.was_refused or has_limit:
            return False
        return pushing.gap(posted.intent) + dt.timedelta(seconds=self.brakes.seconds) < pushing.MAX_FETCH_AGE

    def _give_up(self, broken: list[Claim], error: Exception, *, is_unsent: bool = False) -> None:
        logger.error("An error of our own: %s", [claim.edit.pk for claim in broken], exc_info=error)
        for claim in broken:
            outcomes.broken(claim, is_unsent=is_unsent)
        self._let_go(broken)

    # --- The jobs, in the threads of the pool

    def _job(self, of: list[Claim], work: Callable[[], _Result]) -> Callable[[], None]:
        def job() -> None:
            try:
                self.done.put(work())
            except Exception as error:  # noqa: BLE001 - told by the thread that keeps the books.
                self.done.put(_Broken(of, error))

        return job

    def _look(self, look: _Look) -> _Looked:
        # A lone look waits for the place of its write, too, which then follows at once.
        self.pace.wait(2 if look.is_lone else 1)
        began = time.monotonic()
        try:
            self.brakes.rest()
            began = time.monotonic()
            if look.is_lone:
                return self._look_at(look, began)
            return self._look_at_list(look, began)
        except UpstreamError as error:
            now = time.monotonic()
            if not look.is_lone and _concerns_the_list(error):
                return _Looked(look, {}, began, now)  # Each is asked for by itself: then its own answer tells.
            self.brakes.told(error)
            return _Looked(look, {}, began, now, error=error)

    def _look_at(self, look: _Look, began: float) -> _Looked:
        (claim,) = look.claims
        with claim.tracing():
            run = claim.edit.run
            timed = gateway.fetch_run(self.alias, run.thread.upstream_id, run.upstream_id, self.clock_bounds)
        return _Looked(look, {claim.edit.run.upstream_id: timed}, began, time.monotonic())

    def _look_at_list(self, look: _Look, began: float) -> _Looked:
        thread_id = look.claims[0].edit.run.thread.upstream_id
        timed = gateway.fetch_page(self.alias, thread_id, self.clock_bounds, after=look.after)
        at, response, page = time.monotonic(), timed.response, timed.response.value
        wanted = {claim.edit.run.upstream_id for claim in look.claims}
        found = {
            record.upstream_id: TimedResponse(response.of(record), timed.requested_at, timed.received_at)
            for record in page.records
            if record.upstream_id in wanted and record.shows_metadata
        }
        return _Looked(look, found, began, at, last=page.ids[-1] if page.ids else "", page=response)

    def _probe(
        self, key: int, thread_id: str, wanted: list[probes.Target], error: UpstreamError, pause: float
    ) -> _Probed:
        time.sleep(max(0.0, pause))
        try:
            reach = probes.ask(self.alias, wanted, thread_id=thread_id, is_outage=error.is_outage)
        except Exception:  # Others wait for this probe, and must not wait for ever.
            logger.exception("A probe of %s ended in an error of our own.", self.alias)
            reach = probes.Reach(responds=True, error=NotSent("It could not be found out how far this reaches."))
        return _Probed(key, reach)

    def _list(self, sample: list_freshness.Sample) -> _Listed:
        try:
            return _Listed(
                gateway.fetch_page(self.alias, sample.thread_id, self.clock_bounds, after=sample.after).response
            )
        except UpstreamError as error:
            self.brakes.told(error)
            return _Listed(None)

    def _post(self, intent: Intent) -> _Posted | Outcome | _Broken:
        try:
            return self._send(intent)
        except Exception as error:  # noqa: BLE001 - the client raises UpstreamError for all that may have been sent.
            return _Broken([intent.claim], error, is_unsent=True)

    def _send(self, intent: Intent) -> _Posted | Outcome:
        if not intent.has_slot:
            self.pace.wait(1)
        with suppress(NoSlot):  # Then it is looked at again.
            self.brakes.rest(longest=(pushing.MAX_FETCH_AGE - pushing.gap(intent)).total_seconds())
        if stopped := self.brakes.stop(intent.claim) or pushing.too_old(intent):
            return stopped
        began = time.monotonic()
        with intent.claim.tracing():
            response = pushing.post(intent, self.clock_bounds)
        if isinstance(response, UpstreamError):
            self.brakes.told(response)
        else:
            self.brakes.returned(intent, response)
        return _Posted(intent, response, began, time.monotonic())


def _concerns_the_list(error: UpstreamError) -> bool:
    """Whether a list failed for a reason that single runs may not have: each is then asked for by itself."""
    if error.redirect or error.slow_down or isinstance(error, ConnectionHeld | NoSlot) or error.http_status is None:
        return False
    return error.http_status < 500  # Also a list that is too large or cannot be read.


def _of_look(looked: _Looked, claim: Claim) -> Outcome | Intent:
    timed = looked.found[claim.edit.run.upstream_id]
    if claim.is_unknown:
        return reconciling.judge(claim, timed)
    claim.step("looked")
    step = pushing.decide(claim, timed, looked=looked.at)
    return step if isinstance(step, Outcome) else replace(step, has_slot=looked.look.is_lone)


def _together(ended: list[Outcome]) -> list[Outcome]:
    """Those that shared a look come back at the same time, so that they share the next one."""
    longest = max((outcome.pause for outcome in ended if outcome.pause is not None), default=None)
    return [outcome if outcome.pause is None else replace(outcome, pause=longest) for outcome in ended]


def _of_failed_look(error: UpstreamError, claim: Claim) -> Outcome:
    return (faults.reconcile_failed if claim.is_unknown else faults.fetch_failed)(claim, error)


def _of_write(intent: Intent, response: TimedResponse[RunRecord], _: Claim) -> Outcome:
    return pushing.judge(intent, response)


def _of_failed_write(error: UpstreamError, claim: Claim) -> Outcome:
    return faults.write_failed(claim, error)


def _as_upstream_lists(claim: Claim) -> tuple[int, float, int]:
    """By thread, newest first."""
    run = claim.edit.run
    return (run.thread_id, -run.created_at.timestamp(), -run.pk)


class _Brakes:
    """What keeps edits that were taken up from being sent: a hold, a pause, a server that wants fewer calls."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.shut = ""
        self.writing_is_held = False  # Then what may have been sent is still looked after.
        self.has_refused = False  # Whether edits wait for what another write shows.
        self.lists_are_fresh = False
        self.lists_may_prove = False
        self._rests_until = 0.0
        self._in_progress: set[int | None] = {None}
        self._rewritten: set[int | None] = set()
        self._looked = -SWITCHES

    @property
    def seconds(self) -> float:
        """How long the server is to be left alone."""
        return max(0.0, self._rests_until - time.monotonic())

    def look(self) -> None:
        """Reads the switches again, if it is time."""
        if time.monotonic() - self._looked < SWITCHES:
            return
        in_progress = BulkEdit.objects.filter(connection=self.alias, status__in=IN_PROGRESS)
        accepts_rewrites = dict(in_progress.values_list("pk", "accepts_rewrites"))
        self._in_progress = {None, *accepts_rewrites}
        self._rewritten -= {pk for pk, accepts in accepts_rewrites.items() if accepts}
        state = ConnectionState.objects.filter(alias=self.alias).first() or ConnectionState(alias=self.alias)
        self.shut = connections.hold_reason(self.alias)
        self.writing_is_held = not conf.hold() and state.hold == ConnectionState.Hold.WRITING
        self.has_refused = refusals.waiting(self.alias).exists()
        self.lists_are_fresh = connections.lists_are_fresh(self.alias)
        self.lists_may_prove = not self.lists_are_fresh and state.stale_list_at is None
        if state.not_before:
            self._rest((state.not_before - clock.now()).total_seconds())
        self._looked = time.monotonic()

    def told(self, error: UpstreamError) -> None:
        """By a job: what one request is told is meant for all, at once."""
        effect = gateway.effect_of(error)
        if effect.back_off is not None:
            self._rest(effect.back_off)
        self.shut = effect.detail or self.shut

    def returned(self, intent: Intent, response: TimedResponse[RunRecord]) -> None:
        """By a job: where upstream changes keys that no edit touched, nothing more of the bulk edit is sent, at once.

        The transaction that stores the outcome pauses it.
        """
        edit, record = intent.claim.edit, response.response.value
        if record.shows_metadata and rewrites.pauses(edit, rewrites.of(edit, intent.intended, record.metadata)):
            self._rewritten.add(edit.bulk_edit_id)

    def _rest(self, seconds: float) -> None:
        self._rests_until = max(self._rests_until, time.monotonic() + seconds)

    def rest(self, longest: float = LONGEST_REST) -> None:
        """Returns when the server may be called again. Raises Busy when that is further away than this."""
        while seconds := self.seconds:
            if seconds > longest:
                raise NoSlot("The server wants fewer calls.", retry_after=seconds)
            time.sleep(seconds)

    def stop(self, claim: Claim) -> Outcome | None:
        """What becomes of an edit that cannot be sent now. None: it can."""
        if self.shut:
            return outcomes.hold(claim, self.shut)
        if seconds := self.seconds:
            # A short rest is waited for by this share: then they are to be found due.
            rest = dt.timedelta(seconds=seconds if seconds > LONGEST_REST else 0)
            return outcomes.wait(claim, Edit.WaitReason.RETRY, "The server wants fewer calls.", rest)
        bulk_edit = claim.edit.bulk_edit_id
        if bulk_edit not in self._in_progress or bulk_edit in self._rewritten:
            return outcomes.wait(claim, Edit.WaitReason.TURN, "The bulk edit was stopped.", dt.timedelta())
        return None


class _Pace:
    """Spaces the calls of one process, so that a block of places is used one after the other."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._next = 0.0
        self._step = 0.0

    def goes_on(self, *, after: float, per_second: float) -> None:
        with self._lock:
            self._next = max(self._next, time.monotonic() + after)
            self._step = 1 / per_second

    def wait(self, slots: int) -> None:
        if not self._step:
            return
        with self._lock:
            at = max(self._next, time.monotonic())
            self._next = at + slots * self._step
        time.sleep(max(0.0, at - time.monotonic()))


class Urgency(IntEnum):
    """What threads take first.

    A look that waits behind a hundred writes would leave them idle afterwards. Only a write that a look was for alone
    comes before other looks: behind a few dozen of them, at a slow server, its own would grow too old.
    """

    END = 0
    LONE_POST = 1
    LOOK = 2
    POST = 3


class _Slot:
    """What a thread holds while it has a request under way. Given up as soon as the answer is there."""

    def __init__(self, free: "SimpleQueue[None]") -> None:
        self._free = free
        self._is_held = False

    def __enter__(self) -> None:
        if not self._is_held:
            self._free.get()
            self._is_held = True

    def __exit__(self, *_: object) -> None:
        if self._is_held:
            self._is_held = False
            self._free.put(None)


class _Pool:
    """Threads that call upstream, so many requests at once. A few more read answers and prepare requests meanwhile."""

    def __init__(self, concurrency: int) -> None:
        self._jobs: dict[Urgency, deque[Callable[[], None] | None]] = {urgency: deque() for urgency in Urgency}
        # One for each job that waits, and for each request that may begin. Semaphores take longer.
        self._waiting: SimpleQueue[None] = SimpleQueue()
        self._free: SimpleQueue[None] = SimpleQueue()
        for _ in range(concurrency):
            self._free.put(None)
        size = concurrency + -(-concurrency // SPARE)
        self._threads = [Thread(target=self._work, name=f"upstream-{number}") for number in range(size)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """What is queued is left; what is under way is waited for."""
        for _thread in self._threads:
            self.submit(Urgency.END, None)
        for thread in self._threads:
            thread.join()

    def submit(self, urgency: Urgency, job: Callable[[], None] | None) -> None:
        self._jobs[urgency].append(job)
        self._waiting.put(None)

    def _next(self) -> Callable[[], None] | None:
        self._waiting.get()
        while True:  # Another thread may take the one that this one sees, and leave it another.
            for jobs in self._jobs.values():
                with suppress(IndexError):
                    return jobs.popleft()

    def _work(self) -> None:
        slot = _Slot(self._free)
        transport.slot.set(slot)
        while True:
            with slot:  # Taken before the job is: none waits in the hands of a thread that has no place.
                job = self._next()
                if job is None:
                    return
                job()
