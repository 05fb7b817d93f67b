"""Claims edits, passes every call to the pool, and stores the outcomes. Makes no calls to upstream itself."""

import datetime as dt
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import groupby
from threading import Event
from typing import Any

from runsadmin import conf
from runsadmin.db_errors import is_database_failure
from runsadmin.errors import Forbidden, NoSlot, NotFound, OutcomeUnknown, UpstreamError
from runsadmin.services import connections, probes
from runsadmin.services.clock import ClockBounds
from runsadmin.services.edits import claims, classifying, deciding, outcomes, refusals, storing
from runsadmin.services.edits.batch import list_freshness, probe_queue
from runsadmin.services.edits.batch.calls import Calls, Result, concerns_the_list
from runsadmin.services.edits.batch.pool import Priority, WorkerPool
from runsadmin.services.edits.batch.probe_queue import ProbeQueue
from runsadmin.services.edits.batch.send_gate import MAX_BACK_OFF, REFRESH_EVERY, RequestSpacer, SendGate
from runsadmin.services.edits.claims import Claim
from runsadmin.services.edits.deciding import Intent
from runsadmin.services.edits.outcomes import Outcome
from runsadmin.services.gateway import TimedResponse
from runsadmin.services.probes import Reach
from runsadmin.upstream.client import Slot
from runsadmin.upstream.records import Page, RunRecord

type Step = Outcome | Intent

logger = logging.getLogger("runsadmin.services.edits")

# The coordinator collects results for this many seconds before it stores them.
BATCH_WINDOW = 0.05
# Edits are claimed for this many seconds of work: with more, fetches would become stale.
LOOKAHEAD_SECONDS = 0.6
MAX_CLAIMED = 500
# For this many seconds, few edits are claimed: if their writes prove that lists are fresh, the rest can share fetches.
PROVING_SECONDS = 0.5
# At most this many suspect edits (see `claim_suspect`) are worked on, each alone, before the others.
MAX_SUSPECTS = 20
# After this many failed attempts, a run is fetched individually: lists may fail where single runs do not.
MAX_LIST_ATTEMPTS = 2


class Coordinator:
    def __init__(self, alias: str, pool: WorkerPool[Sequence[Step]]) -> None:
        self.alias = alias
        self.pool = pool
        self.gate = SendGate(alias)
        self.spacer = RequestSpacer()
        self.calls = Calls(alias, self.gate, self.spacer)
        self.probes = ProbeQueue()
        self.lists = list_freshness.Evidence(alias)
        self.claimed: dict[int, Claim] = {}
        # Of the results that are being processed: the refused edits, which are evaluated together, and the writes.
        self.forbidden: list[tuple[Claim, Forbidden]] = []
        self.write_count = 0
        self.received_at = 0.0  # When upstream last responded, in time.monotonic().
        self.claimed_count = 0
        self.writes_per_second = 0.0
        self.claims_again_at = 0.0
        self.has_suspect, self.suspects_left = False, MAX_SUSPECTS
        self.renews_at = 0.0
        self.may_prove_until = time.monotonic() + PROVING_SECONDS
        self.connection = conf.connection(alias)
        self.block = 2 * self.connection.concurrency
        self.background_per_second = connections.background_per_second(self.connection)

    def run(self, *, until: float, stopping: Event) -> None:
        while True:
            self.gate.refresh()
            if stopping.is_set():  # Not when the time is up: edits of a slow upstream might never get past a fetch.
                self.pool.close()
            may_send = not self.gate.hold_reason or self.gate.writing_is_held
            continues = may_send and not self.pool.is_closed and time.monotonic() < until
            self._renew_leases()
            if continues and not self.gate.back_off:
                self._claim_block()
            # After an internal error. Otherwise, the leases of these edits would be renewed forever.
            if self.claimed and not self.pool.unfinished:
                self._record_crash(list(self.claimed.values()), RuntimeError("No call is in flight for these edits."))
            elif self.claimed:
                self._process_results()
            elif continues and 0 < self.gate.back_off <= MAX_BACK_OFF:
                time.sleep(min(self.gate.back_off, REFRESH_EVERY))  # Nothing is claimed, so no lease can expire.
            else:
                return

    def _renew_leases(self) -> None:
        if time.monotonic() >= self.renews_at:
            claims.renew(self.claimed.values())
            self.renews_at = time.monotonic() + claims.LEASE.total_seconds() / 3

    # --- Claiming and fetching

    def _claim_block(self) -> None:
        limit = self._max_claimed()
        room = limit - len(self.claimed)
        if room < max(1, limit // 2) or time.monotonic() < self.claims_again_at:  # Claim in blocks, not one by one.
            return
        if self.claimed and self.has_suspect:
            return
        self.calls.clock = ClockBounds()
        only_unknown, claimed = self.gate.writing_is_held, []
        if not self.claimed and self.suspects_left:
            claimed = claims.claim_suspect(self.alias, only_unknown=only_unknown)
            self.has_suspect, self.suspects_left = bool(claimed), self.suspects_left - 1 if claimed else 0
        claimed = claimed or claims.claim_due(self.alias, room, only_unknown=only_unknown)
        if not claimed:
            self.claims_again_at = time.monotonic() + REFRESH_EVERY
        self.claimed_count += len(claimed)
        self.claimed |= {claim.edit.pk: claim for claim in claimed}
        for claim in claimed:
            claim.log_step("reconciling" if claim.is_unknown else "claimed")
        # Only sending needs the permission: an unknown write is always reconciled.
        refused = [claim for claim in claimed if not claim.is_permitted and not claim.is_unknown]
        self._store([outcomes.not_permitted(claim) for claim in refused])
        others = sorted((claim for claim in claimed if claim.edit.pk in self.claimed), key=Claim.list_position)
        for _, of_thread in groupby(others, key=lambda claim: claim.edit.run.thread_id):
            self._fetch_runs(list(of_thread))

    def _max_claimed(self) -> int:
        if self.background_per_second is not None:
            return max(1, min(MAX_CLAIMED, int(self.background_per_second * LOOKAHEAD_SECONDS / 2)))
        if self.gate.lists_may_prove and time.monotonic() < self.may_prove_until:
            return self.block
        return max(2 * self.block, min(MAX_CLAIMED, int(self.writes_per_second * LOOKAHEAD_SECONDS)))

    def _fetch_runs(self, of_thread: list[Claim]) -> None:
        """Fetches runs of one thread: with one list if lists are known to be fresh, otherwise one by one."""
        by_list: list[Claim] = []
        for claim in of_thread:
            if self.gate.lists_are_fresh and claim.edit.attempts < MAX_LIST_ATTEMPTS:
                by_list.append(claim)
            else:
                self._fetch([claim])
        if by_list:
            self._fetch(by_list)

    def _fetch(self, group: list[Claim], *, after: str = "") -> None:
        """Fetches one run, or several of one thread with a list. Also takes the slots of the writes that follow."""
        if self.background_per_second:
            try:
                at = connections.take_slots(self.connection, 1 + len(group))
            except NoSlot as error:
                self._store(self._failed(group, error))
                return
            pause = (at - self.calls.clock.latest()).total_seconds()
            self.spacer.start_block(after=pause, per_second=self.background_per_second)
        if len(group) == 1:
            self._submit(
                Priority.FETCH, group, partial(self.calls.fetch_run, group[0]), partial(self._process_run, group[0])
            )
        else:
            fetch_list = partial(self.calls.fetch_list, group[0].edit.run.thread, after)
            self._submit(Priority.FETCH, group, fetch_list, partial(self._process_list, group))

    def _submit[T](
        self, priority: Priority, group: list[Claim], call: Callable[[Slot], T], process: Callable[[T], Sequence[Step]]
    ) -> None:
        on_error, on_drop = partial(self._record_crash, group), partial(outcomes.returned, group)
        self.pool.submit(priority, call, self._guarded(group, process), on_error, on_drop)

    def _guarded[**P](self, group: list[Claim], process: Callable[P, Sequence[Step]]) -> Callable[P, Sequence[Step]]:
        """The function, except that an internal error ends this attempt of the group, and affects no other edits."""

        def guarded(*args: P.args, **kwargs: P.kwargs) -> Sequence[Step]:
            try:
                return process(*args, **kwargs)
            except Exception as error:
                if is_database_failure(error):
                    raise
                return self._record_crash(group, error)

        return guarded

    # --- Results

    def _process_results(self) -> None:
        began = time.monotonic()
        # Wait for the first result, then briefly for more, so that one transaction stores several.
        limit = min(len(self.claimed), self.block)
        results = self.pool.collect(limit, timeout=REFRESH_EVERY, until=began + BATCH_WINDOW)
        self.forbidden, self.write_count = [], 0
        steps = [step for process in results for step in process()]
        has_written = any(isinstance(step, Outcome) and step.has_written for step in steps)
        evaluate = self._guarded([claim for claim, _ in self.forbidden], refusals.evaluate)
        steps += evaluate(self.alias, self.forbidden, has_written=has_written)
        self._store(
            [step for step in steps if isinstance(step, Outcome)],
            [step for step in steps if isinstance(step, Intent)],
        )
        self.gate.has_refused = self.gate.has_refused or bool(self.forbidden)
        if has_written and (self.gate.has_refused or self.gate.writing_is_held):
            elapsed = dt.timedelta(seconds=time.monotonic() - began)
            refusals.note_write(self.alias, self.calls.clock.earliest() - elapsed)
        self._request_sample()
        writes = self.write_count / (time.monotonic() - began)
        self.writes_per_second += (writes - self.writes_per_second) / (4 if self.writes_per_second else 1)

    def _process_run(self, claim: Claim, result: Result[RunRecord]) -> Sequence[Step]:
        if isinstance(timed := result.response, UpstreamError):
            return self._process_fetch_error([claim], timed, result)
        self.received_at = result.at
        return self._each([claim], lambda claim: self._decide(claim, timed, result.at))

    def _process_list(self, group: list[Claim], result: Result[Page]) -> Sequence[Step]:
        if isinstance(page := result.response, UpstreamError):
            return self._process_fetch_error(group, page, result)
        self.received_at = result.at
        self._check_list(page)
        shown = {record.upstream_id: record for record in page.value.records if record.shows_metadata}
        found = shown if self.gate.lists_are_fresh else {}
        served = [claim for claim in group if claim.edit.run.upstream_id in found]
        unserved = [claim for claim in group if claim.edit.run.upstream_id not in found]
        if len(served) > 1 and unserved:  # The list was useful: fetch its next page.
            self._fetch(unserved, after=page.value.ids[-1])
        else:
            for claim in unserved:
                self._fetch([claim])

        def decide(claim: Claim) -> Step:
            step = self._decide(claim, page.with_value(found[claim.edit.run.upstream_id]), result.at)
            return replace(step, has_slot=False) if isinstance(step, Intent) else step

        return self._each(served, decide)

    def _decide(self, claim: Claim, timed: TimedResponse[RunRecord], at: float) -> Step:
        if claim.is_unknown:
            claim.log_step("fetched again")
            return classifying.reconcile_response(claim, timed)
        claim.log_step("fetched")
        return deciding.decide_write(claim, timed, fetched_at=at)

    def _process_fetch_error(self, group: list[Claim], error: UpstreamError, result: Result[Any]) -> list[Outcome]:
        self._note_error(error, at=result.at)
        if len(group) > 1 and concerns_the_list(error):
            for claim in group:
                self._fetch([claim])
            return []
        if isinstance(error, Forbidden):
            return self._refuse_or_wait(group, error)
        if self._needs_probes(error, began=result.began):
            return self._find_reach(group, error)
        return outcomes.together(self._failed(group, error))

    def _process_write(self, intent: Intent, result: Result[RunRecord] | Outcome) -> Sequence[Outcome]:
        if isinstance(result, Outcome):
            return [result]
        self.write_count += 1
        if isinstance(timed := result.response, UpstreamError):
            return self._process_write_error(intent, timed, result)
        self.received_at = result.at
        self.lists.add_write(intent, timed, result.at)
        intent.claim.log_step("responded")
        return self._each([intent.claim], lambda _: classifying.write_response(intent, timed))

    def _process_write_error(self, intent: Intent, error: UpstreamError, result: Result[RunRecord]) -> list[Outcome]:
        claim = intent.claim
        self._note_error(error, at=result.at, is_write=True)
        # With a rate limit, sending again would use a slot that was not reserved.
        if self.background_per_second is None and deciding.may_be_sent_again(intent, error, self.gate.back_off):
            self._write(replace(intent, was_refused=True))
            return []
        claim.log_step("responded")
        if isinstance(error, Forbidden):
            return self._refuse_or_wait([claim], error)
        if not isinstance(error, OutcomeUnknown) and self._needs_probes(error, began=result.began):
            return self._find_reach([claim], error)
        return self._failed([claim], error)

    def _note_error(self, error: UpstreamError, *, at: float, is_write: bool = False) -> None:
        connections.apply_error(self.alias, error, is_write=is_write)
        if not error.is_outage and error.http_status is not None:
            self.received_at = at

    def _needs_probes(self, error: UpstreamError, *, began: float) -> bool:
        """Whether it is unclear how far an error reaches. A later response already disproves an outage."""
        return isinstance(error, NotFound) or (probes.is_needed(error) and not self.received_at > began)

    def _failed(self, group: list[Claim], error: UpstreamError) -> list[Outcome]:
        return self._each(group, lambda claim: classifying.call_error(claim, error, self.calls.clock.latest()))

    def _refuse_or_wait(self, group: list[Claim], error: Forbidden) -> list[Outcome]:
        """Collects refused edits, which are evaluated together after all results. Unknown edits stay unknown."""
        self.forbidden += [(claim, error) for claim in group if not claim.is_unknown]
        return self._failed([claim for claim in group if claim.is_unknown], error)

    # --- Probes

    def _find_reach(self, group: list[Claim], error: UpstreamError) -> list[Outcome]:
        """Has the pool probe how far an error reaches, once for all edits that it affects."""
        key = probe_queue.key_of(group[0], error)
        if reach := self.probes.recent(key):
            return self._apply_reach([(claim, error) for claim in group], reach)
        if not self.probes.is_waiting(key):
            targets = probes.targets(group[0].edit.run.thread)
            try:
                at = connections.take_slots(self.connection, len(targets), interactive=True)
            except NoSlot as no_slot:
                return self._failed(group, no_slot)
            pause = (at - self.calls.clock.latest()).total_seconds()
            thread_id = group[0].edit.run.thread.upstream_id
            probe = partial(self.calls.probe, targets, thread_id, error, pause)
            process = self._guarded(group, partial(self._process_reach, key))
            on_error = partial(self._record_crash, group)
            self.pool.submit(
                Priority.SINGLE_WRITE, probe, process, on_error, lambda: outcomes.returned(self.probes.drop(key))
            )
        self.probes.wait(key, group, error)
        return []

    def _process_reach(self, key: int, reach: Reach) -> Sequence[Step]:
        waiting = self.probes.finish(key, reach)
        return self._guarded([claim for claim, _ in waiting], self._apply_reach)(waiting, reach)

    def _apply_reach(self, waiting: list[tuple[Claim, UpstreamError]], reach: Reach) -> list[Outcome]:
        claim, error = waiting[0]
        # The effect is the same for all of these edits, apart from the run that its detail names.
        connections.store_effect(self.alias, probes.conclude(claim.edit.run.upstream_id, error, reach).effect)
        now = self.calls.clock.latest()
        ended: list[Outcome] = []
        for claim, error in waiting:
            conclusion = probes.conclude(claim.edit.run.upstream_id, error, reach)
            classify = partial(classifying.error_after_probes, error=error, conclusion=conclusion, now=now)
            ended += self._each([claim], classify)
        return ended

    # --- Whether lists are fresh

    def _check_list(self, page: TimedResponse[Page]) -> None:
        """Compares a list with our latest writes."""
        if stale := self.lists.compare(page.response):
            connections.note_stale_list(self.alias, stale)
            self.gate.lists_are_fresh, self.gate.lists_are_stale = False, True

    def _request_sample(self) -> None:
        """Requests a list right after our own writes, if lists may still prove to be fresh."""
        if not self.gate.lists_may_prove or (sample := self.lists.next_sample()) is None:
            return
        with suppress(NoSlot):
            connections.take_slots(self.connection, 1)
            self.lists.note_requested()
            self._submit(Priority.SINGLE_WRITE, [], partial(self.calls.sample_list, *sample), self._process_sample)

    def _process_sample(self, result: Result[Page]) -> Sequence[Step]:
        self.lists.is_requested = False
        if isinstance(page := result.response, TimedResponse):
            self._check_list(page)
            self.gate.lists_are_fresh = connections.lists_are_fresh(self.alias)
        return ()

    # --- Storing

    def _store(self, ended: list[Outcome], intents: Sequence[Intent] = ()) -> None:
        if not ended and not intents:
            return
        ready = storing.store(ended, intents, on_error=lambda claim, error: self._record_crash([claim], error))
        for intent in ready:
            self._write(intent)
        sent = {intent.claim.edit.pk for intent in ready}
        self._drop([intent.claim for intent in intents if intent.claim.edit.pk not in sent])
        self._drop([outcome.claim for outcome in ended])

    def _write(self, intent: Intent) -> None:
        priority = Priority.SINGLE_WRITE if intent.has_slot else Priority.WRITE
        write = partial(self.calls.write, intent)
        process = self._guarded([intent.claim], partial(self._process_write, intent))
        # Any other error means that nothing was sent: otherwise, the client would have raised an UpstreamError.
        on_error = partial(self._record_crash, [intent.claim], is_unsent=True)
        self.pool.submit(priority, write, process, on_error, partial(outcomes.returned, [intent.claim]))

    def _drop(self, group: Sequence[Claim]) -> None:
        for claim in group:
            self.claimed.pop(claim.edit.pk, None)

    def _each[T](self, group: Sequence[Claim], classify: Callable[[Claim], T]) -> list[T]:
        """Classifies each claim. An internal error in one of them does not affect the others."""
        classified: list[T] = []
        for claim in group:
            try:
                classified.append(classify(claim))
            except Exception as error:
                if is_database_failure(error):
                    raise
                self._record_crash([claim], error)
        return classified

    def _record_crash(self, crashed: list[Claim], error: Exception, *, is_unsent: bool = False) -> Sequence[Step]:
        pks = [claim.edit.pk for claim in crashed]
        logger.error("Processing edits %s failed with an internal error.", pks, exc_info=error)
        for claim in crashed:
            claims.record_crash(claim, error, is_unsent=is_unsent)
        self._drop(crashed)
        return ()
