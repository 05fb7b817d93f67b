"""Claims edits, passes every call to the pool, and stores the outcomes. Makes no calls to upstream itself."""

import datetime as dt
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from queue import Empty
from threading import Event

from django.db import DatabaseError

from runsadmin import conf
from runsadmin.errors import Forbidden, NoSlot, NotFound, NotSent, OutcomeUnknown, UpstreamError
from runsadmin.services import connections, probes
from runsadmin.services.clock import ClockBounds
from runsadmin.services.edits import claims, classifying, deciding, outcomes, refusals, storing
from runsadmin.services.edits.batch import list_freshness, probe_queue
from runsadmin.services.edits.batch.jobs import Crashed, Fetch, Fetched, Jobs, Probed, Result, Sampled, Written
from runsadmin.services.edits.batch.pool import Priority, WorkerPool
from runsadmin.services.edits.batch.probe_queue import ProbeQueue
from runsadmin.services.edits.batch.send_gate import MAX_BACK_OFF, REFRESH_EVERY, RequestSpacer, SendGate
from runsadmin.services.edits.claims import Claim
from runsadmin.services.edits.deciding import Intent
from runsadmin.services.edits.outcomes import Outcome
from runsadmin.services.gateway import TimedResponse
from runsadmin.services.probes import Reach
from runsadmin.upstream.records import Page, RunRecord

logger = logging.getLogger("runsadmin.services.edits")

# The coordinator collects results for this many seconds before it stores them.
BATCH_WINDOW = 0.05
# Edits are claimed for this many seconds of work: with more, fetches would become stale.
LOOKAHEAD_SECONDS = 0.6
MAX_CLAIMED = 500
# At first few edits are claimed, since their writes may prove that lists are fresh: the others then need no GET each.
PROVING_SECONDS = 0.5
# After this many failed attempts a run is fetched individually: lists may fail where single runs do not.
MAX_LIST_ATTEMPTS = 2


def push_due(alias: str, *, until: float, stopping: Event | None = None) -> int:
    """Pushes and reconciles what is due on a connection, until nothing is or `time.monotonic()` reaches `until`.

    Returns how many edits it claimed.
    """

    def may_continue() -> bool:
        return time.monotonic() < until and not (stopping is not None and stopping.is_set())

    with WorkerPool(conf.connection(alias).concurrency) as pool:
        coordinator = Coordinator(alias, pool)
        coordinator.run(may_continue)
    return coordinator.claimed_count


class Coordinator:
    def __init__(self, alias: str, pool: WorkerPool) -> None:
        self.alias = alias
        self.pool = pool
        self.gate = SendGate(alias)
        self.spacer = RequestSpacer()
        self.jobs = Jobs(alias, self.gate, self.spacer)
        self.probes = ProbeQueue()
        self.lists = list_freshness.Evidence(alias)
        self.claimed: dict[int, Claim] = {}
        self.forbidden: list[tuple[Claim, Forbidden]] = []  # From the results being processed.
        self.received_at = 0.0  # When upstream last responded, in time.monotonic().
        self.claimed_count = 0
        self.writes_per_second = 0.0
        self.claims_again_at = 0.0
        self.renews_at = 0.0
        self.may_prove_until = time.monotonic() + PROVING_SECONDS
        self.connection = conf.connection(alias)
        self.block = 2 * self.connection.concurrency
        self.background_per_second = connections.background_per_second(self.connection)

    def run(self, may_continue: Callable[[], bool]) -> None:
        while True:
            self.gate.refresh()
            continues = may_continue() and (not self.gate.hold_reason or self.gate.writing_is_held)
            self._renew_leases()
            if continues and not self.gate.back_off:
                self._claim_block()
            if self.claimed:
                self._process_results()
            elif continues and 0 < self.gate.back_off <= MAX_BACK_OFF:
                time.sleep(min(self.gate.back_off, REFRESH_EVERY))  # Nothing is claimed meanwhile.
            else:
                return

    def _renew_leases(self) -> None:
        if time.monotonic() >= self.renews_at:
            claims.renew(self.claimed.values())
            self.renews_at = time.monotonic() + claims.LEASE.total_seconds() / 3

    # --- Claiming and fetching

    def _claim_block(self) -> None:
        most = self._max_claimed()
        room = most - len(self.claimed)
        if room < max(1, most // 2) or time.monotonic() < self.claims_again_at:  # Claim in blocks, not one by one.
            return
        self.jobs.clock = ClockBounds()
        claimed = claims.claim_due(self.alias, room, only_unknown=self.gate.writing_is_held)
        if not claimed:
            self.claims_again_at = time.monotonic() + REFRESH_EVERY
        self.claimed_count += len(claimed)
        self.claimed |= {claim.edit.pk: claim for claim in claimed}
        for claim in claimed:
            claim.log_step("reconciling" if claim.is_unknown else "claimed")
        # Only sending needs the permission: an unknown write is always reconciled.
        refused = [claim for claim in claimed if not claim.is_permitted and not claim.is_unknown]
        self._store([outcomes.not_permitted(claim) for claim in refused])
        others = sorted((claim for claim in claimed if claim.edit.pk in self.claimed), key=_as_upstream_lists)
        for _, of_thread in groupby(others, key=lambda claim: claim.edit.run.thread_id):
            self._fetch_runs(list(of_thread))

    def _max_claimed(self) -> int:
        if self.background_per_second is not None:
            return max(1, min(MAX_CLAIMED, int(self.background_per_second * LOOKAHEAD_SECONDS / 2)))
        if self.gate.lists_may_prove and time.monotonic() < self.may_prove_until:
            return self.block
        return max(2 * self.block, min(MAX_CLAIMED, int(self.writes_per_second * LOOKAHEAD_SECONDS)))

    def _fetch_runs(self, of_thread: list[Claim]) -> None:
        """Fetches runs of one thread: with one list if lists are known to be fresh, otherwise with a GET of each."""
        by_list = [claim for claim in of_thread if claim.edit.attempts < MAX_LIST_ATTEMPTS]
        if len(by_list) < 2 or not self.gate.lists_are_fresh:
            by_list = []
        if by_list:
            self._fetch(Fetch(by_list))
        in_list = {claim.edit.pk for claim in by_list}
        for claim in of_thread:
            if claim.edit.pk not in in_list:
                self._fetch(Fetch([claim]))

    def _fetch(self, fetch: Fetch) -> None:
        """Takes the slots of a fetch and of the writes that will follow it."""
        if self.background_per_second:
            try:
                at = connections.take_slots(self.connection, 1 + len(fetch.claims))
            except NoSlot as error:
                self._store(self._failed(fetch.claims, error))
                return
            pause = (at - self.jobs.clock.latest()).total_seconds()
            self.spacer.start_block(after=pause, per_second=self.background_per_second)
        self.pool.submit(Priority.FETCH, self.jobs.fetch(fetch))

    # --- Results

    def _process_results(self) -> None:
        began = time.monotonic()
        results = self._collect_results(began)
        self.forbidden = []
        steps = [step for result in results for step in self._process(result)]
        has_written = any(isinstance(step, Outcome) and step.has_written for step in steps)
        steps += refusals.weigh(self.alias, self.forbidden, has_written=has_written)
        self._store(
            [step for step in steps if isinstance(step, Outcome)],
            [step for step in steps if isinstance(step, Intent)],
        )
        self.gate.has_refused = self.gate.has_refused or bool(self.forbidden)
        if has_written and (self.gate.has_refused or self.gate.writing_is_held):
            elapsed = dt.timedelta(seconds=time.monotonic() - began)
            refusals.note_write(self.alias, self.jobs.clock.earliest() - elapsed)
        self._request_sample()
        writes = sum(isinstance(result, Written) for result in results) / (time.monotonic() - began)
        self.writes_per_second += (writes - self.writes_per_second) / (4 if self.writes_per_second else 1)

    def _collect_results(self, began: float) -> list[Result]:
        """Waits for the first result, then briefly for more, so that one transaction stores several."""
        results: list[Result] = []
        queue = self.jobs.results
        with suppress(Empty):
            results.append(queue.get(timeout=REFRESH_EVERY))
            while len(results) < min(len(self.claimed), self.block):
                results.append(queue.get(timeout=max(0.0, began + BATCH_WINDOW - time.monotonic())))
            while True:
                results.append(queue.get_nowait())
        return results

    def _process(self, result: Result) -> Sequence[Outcome | Intent]:
        match result:
            case Written():
                return self._process_write(result)
            case Fetched():
                return self._process_fetch(result)
            case Outcome():
                return [result]
            case Probed(key, reach):
                return self._apply_reach(self.probes.finish(key, reach), reach)
            case Sampled(page):
                self.lists.is_requested = False
                self._check_list(page, is_sample=True)
            case Crashed(crashed, error, is_unsent):
                self._record_crash(crashed, error, is_unsent=is_unsent)
        return []

    def _process_fetch(self, fetched: Fetched) -> Sequence[Outcome | Intent]:
        fetch = fetched.fetch
        if (error := fetched.error) is not None:
            return self._process_fetch_error(fetched, error)
        self.received_at = fetched.at
        self._check_list(fetched.page)
        found = fetched.found if fetched.page is None or self.gate.lists_are_fresh else {}
        served = [claim for claim in fetch.claims if claim.edit.run.upstream_id in found]
        unserved = [claim for claim in fetch.claims if claim.edit.run.upstream_id not in found]
        if len(served) > 1 and fetched.last and unserved:  # The list was useful: fetch its next page.
            self._fetch(Fetch(unserved, after=fetched.last))
        else:
            for claim in unserved:
                self._fetch(Fetch([claim]))

        def decide(claim: Claim) -> Outcome | Intent:
            timed = found[claim.edit.run.upstream_id]
            if claim.is_unknown:
                claim.log_step("fetched again")
                return classifying.reconcile_response(claim, timed)
            claim.log_step("fetched")
            step = deciding.decide_write(claim, timed, fetched_at=fetched.at)
            return step if isinstance(step, Outcome) else replace(step, has_slot=fetch.is_single)

        return self._each(served, decide)

    def _process_fetch_error(self, fetched: Fetched, error: UpstreamError) -> list[Outcome]:
        of = fetched.fetch.claims
        self._note_error(error, at=fetched.at)
        if isinstance(error, Forbidden):
            return self._refuse_or_wait(of, error)
        if self._needs_probes(error, began=fetched.began):
            return self._find_reach(of, error)
        return _together(self._failed(of, error))

    def _process_write(self, written: Written) -> list[Outcome]:
        intent, response = written.intent, written.response
        if isinstance(response, UpstreamError):
            return self._process_write_error(written, response)
        self.received_at = written.at
        self.lists.add_write(intent, response, written.at)
        return self._each([intent.claim], lambda claim: self._classify_write(claim, intent, response))

    def _classify_write(self, claim: Claim, intent: Intent, response: TimedResponse[RunRecord]) -> Outcome:
        claim.log_step("responded")
        return classifying.write_response(intent, response)

    def _process_write_error(self, written: Written, error: UpstreamError) -> list[Outcome]:
        claim = written.intent.claim
        self._note_error(error, at=written.at, is_write=True)
        if self._may_be_sent_again(written, error):
            self._submit_write(replace(written.intent, was_refused=True))
            return []
        claim.log_step("responded")
        if isinstance(error, Forbidden):
            return self._refuse_or_wait([claim], error)
        if not isinstance(error, OutcomeUnknown) and self._needs_probes(error, began=written.began):
            return self._find_reach([claim], error)
        return self._failed([claim], error)

    def _note_error(self, error: UpstreamError, *, at: float, is_write: bool = False) -> None:
        connections.apply_error(self.alias, error, is_write=is_write)
        if not error.is_outage and error.http_status is not None:
            self.received_at = at

    def _needs_probes(self, error: UpstreamError, *, began: float) -> bool:
        """Whether it is unclear how far an error reaches. A later response already disproves an outage."""
        return isinstance(error, NotFound) or (probes.is_needed(error) and not self.received_at > began)

    def _failed(self, of: list[Claim], error: UpstreamError) -> list[Outcome]:
        return self._each(of, lambda claim: classifying.call_error(claim, error, self.jobs.clock.latest()))

    def _may_be_sent_again(self, written: Written, error: UpstreamError) -> bool:
        """Whether this was its first 429, and its fetch will still be fresh after the back-off."""
        if not (isinstance(error, NotSent) and error.slow_down) or written.intent.was_refused:
            return False
        if self.background_per_second is not None:  # Resending would use a slot that was not reserved.
            return False
        return written.intent.fetch_age + dt.timedelta(seconds=self.gate.back_off) < deciding.MAX_FETCH_AGE

    def _refuse_or_wait(self, of: list[Claim], error: Forbidden) -> list[Outcome]:
        """Collects refused edits, which are evaluated together after all results. Unknown ones stay unknown."""
        self.forbidden += [(claim, error) for claim in of if not claim.is_unknown]
        return self._failed([claim for claim in of if claim.is_unknown], error)

    # --- Probes

    def _find_reach(self, of: list[Claim], error: UpstreamError) -> list[Outcome]:
        """Has the pool probe how far an error reaches, once for all edits that it affects."""
        key = probe_queue.key_of(of[0], error)
        if reach := self.probes.recent(key):
            return self._apply_reach([(claim, error) for claim in of], reach)
        if not self.probes.is_waiting(key):
            targets = probes.targets(of[0].edit.run.thread)
            try:
                at = connections.take_slots(self.connection, len(targets), interactive=True)
            except NoSlot as no_slot:
                return self._failed(of, no_slot)
            pause = (at - self.jobs.clock.latest()).total_seconds()
            self.pool.submit(Priority.SINGLE_WRITE, self.jobs.probe(key, of, targets, error, pause))
        self.probes.wait(key, of, error)
        return []

    def _apply_reach(self, waiting: list[tuple[Claim, UpstreamError]], reach: Reach) -> list[Outcome]:
        errors = {claim.edit.pk: error for claim, error in waiting}
        claim, error = waiting[0]
        # The effect is the same for all of them, apart from the run that it mentions.
        connections.store_effect(self.alias, probes.conclude(claim.edit.run, error, reach).effect)
        now = self.jobs.clock.latest()

        def classify(claim: Claim) -> Outcome:
            error = errors[claim.edit.pk]
            return classifying.error_after_probes(claim, error, probes.conclude(claim.edit.run, error, reach), now)

        return self._each([claim for claim, _ in waiting], classify)

    # --- Whether lists are fresh

    def _check_list(self, page: TimedResponse[Page] | None, *, is_sample: bool = False) -> None:
        """Compares a list with our latest writes."""
        if page is None:
            return
        if stale := self.lists.compare(page.response):
            connections.note_stale_list(self.alias, stale)
            self.gate.lists_are_fresh, self.gate.lists_are_stale = False, True
        elif is_sample:
            self.gate.lists_are_fresh = self.lists.is_proven

    def _request_sample(self) -> None:
        """Requests a list right after our own writes, if lists may still prove to be fresh."""
        if not self.gate.lists_may_prove or (sample := self.lists.next_sample()) is None:
            return
        with suppress(NoSlot):
            connections.take_slots(self.connection, 1)
            self.lists.note_requested()
            self.pool.submit(Priority.SINGLE_WRITE, self.jobs.sample(sample))

    # --- Storing

    def _store(self, ended: list[Outcome], intents: Sequence[Intent] = ()) -> None:
        if not ended and not intents:
            return
        ready = storing.store(ended, intents)
        for intent in ready:
            self._submit_write(intent)
        sent = {intent.claim.edit.pk for intent in ready}
        self._drop([intent.claim for intent in intents if intent.claim.edit.pk not in sent])
        self._drop([outcome.claim for outcome in ended])

    def _submit_write(self, intent: Intent) -> None:
        priority = Priority.SINGLE_WRITE if intent.has_slot else Priority.WRITE
        self.pool.submit(priority, self.jobs.write(intent))

    def _drop(self, of: Sequence[Claim]) -> None:
        for claim in of:
            self.claimed.pop(claim.edit.pk, None)

    def _each[T](self, of: Sequence[Claim], classify: Callable[[Claim], T]) -> list[T]:
        """An internal error in one of them does not affect the others."""
        classified: list[T] = []
        for claim in of:
            try:
                classified.append(classify(claim))
            except DatabaseError:
                raise
            except Exception as error:  # noqa: BLE001 - logged, and counted as an attempt.
                self._record_crash([claim], error)
        return classified

    def _record_crash(self, crashed: list[Claim], error: Exception, *, is_unsent: bool = False) -> None:
        logger.error("An internal error in edits %s", [claim.edit.pk for claim in crashed], exc_info=error)
        for claim in crashed:
            claims.record_crash(claim, is_unsent=is_unsent)
        self._drop(crashed)


def _together(ended: list[Outcome]) -> list[Outcome]:
    """Makes edits that shared a fetch due at the same time, so that they share the next one too."""
    longest = max((outcome.pause for outcome in ended if outcome.pause is not None), default=None)
    return [outcome if outcome.pause is None else replace(outcome, pause=longest) for outcome in ended]


def _as_upstream_lists(claim: Claim) -> tuple[int, float, int]:
    """The sort key: by thread, newest first."""
    run = claim.edit.run
    return (run.thread_id, -run.created_at.timestamp(), -run.pk)
