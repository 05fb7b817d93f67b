"""The jobs of the pool's threads: one call to upstream each, without the database."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue

from runsadmin.errors import ConnectionHeld, NoSlot, NotSent, UpstreamError
from runsadmin.services import gateway, probes
from runsadmin.services.clock import ClockBounds
from runsadmin.services.edits import deciding
from runsadmin.services.edits.batch.list_freshness import Sample
from runsadmin.services.edits.batch.send_gate import RequestSpacer, SendGate
from runsadmin.services.edits.claims import Claim
from runsadmin.services.edits.deciding import Intent
from runsadmin.services.edits.outcomes import Outcome
from runsadmin.services.gateway import TimedResponse
from runsadmin.services.probes import Reach, Target
from runsadmin.upstream.client import Slot
from runsadmin.upstream.records import Page, RunRecord

logger = logging.getLogger("runsadmin.services.edits")


@dataclass(frozen=True)
class Fetch:
    """One call that fetches the runs of these claims, all of one thread: a list if there are several."""

    claims: list[Claim]
    after: str = ""

    @property
    def is_single(self) -> bool:
        return len(self.claims) == 1


@dataclass(frozen=True)
class Fetched:
    """The runs that a fetch returned, by upstream id, or an error."""

    fetch: Fetch
    found: dict[str, TimedResponse[RunRecord]]
    began: float  # In time.monotonic(), as `at`.
    at: float
    last: str = ""
    error: UpstreamError | None = None
    page: TimedResponse[Page] | None = None  # If it was a list.


@dataclass(frozen=True)
class Written:
    intent: Intent
    response: TimedResponse[RunRecord] | UpstreamError
    began: float  # In time.monotonic(), as `at`.
    at: float


@dataclass(frozen=True)
class Probed:
    """How far an error reaches, with the key of the edits that wait for it."""

    key: int
    reach: Reach


@dataclass(frozen=True)
class Sampled:
    """A list that was requested only to check whether it shows our own writes. None: it failed."""

    page: TimedResponse[Page] | None


@dataclass(frozen=True)
class Crashed:
    """An internal error. With `is_unsent` it occurred before anything was sent."""

    claims: list[Claim]
    error: Exception
    is_unsent: bool = False


# A thread of the pool calls this with its slot.
type Job = Callable[[Slot], None]
type Result = Fetched | Written | Probed | Sampled | Outcome | Crashed


class Jobs:
    """Each method returns a job that puts its result into `results`."""

    def __init__(self, alias: str, gate: SendGate, spacer: RequestSpacer) -> None:
        self.alias = alias
        self.gate = gate
        self.spacer = spacer
        self.clock = ClockBounds()  # Renewed by the coordinator.
        self.results: SimpleQueue[Result] = SimpleQueue()

    def _job(self, claims: list[Claim], work: Callable[[Slot], Result], *, is_unsent: bool = False) -> Job:
        def job(slot: Slot) -> None:
            try:
                self.results.put(work(slot))
            except Exception as error:  # noqa: BLE001 - logged by the coordinator.
                self.results.put(Crashed(claims, error, is_unsent))

        return job

    # --- Fetches

    def fetch(self, fetch: Fetch) -> Job:
        return self._job(fetch.claims, lambda slot: self._fetch(fetch, slot))

    def _fetch(self, fetch: Fetch, slot: Slot) -> Fetched:
        # A single fetch also waits for the slot of its write, which can then follow immediately.
        self.spacer.wait(2 if fetch.is_single else 1)
        began = time.monotonic()
        try:
            self.gate.wait_out_back_off()
            began = time.monotonic()
            return self._fetch_run(fetch, began, slot) if fetch.is_single else self._fetch_list(fetch, began, slot)
        except UpstreamError as error:
            now = time.monotonic()
            if not fetch.is_single and _concerns_the_list(error):
                return Fetched(fetch, {}, began, now)  # As if it had returned none: each is then fetched individually.
            self.gate.note_error(error)
            return Fetched(fetch, {}, began, now, error=error)

    def _fetch_run(self, fetch: Fetch, began: float, slot: Slot) -> Fetched:
        (claim,) = fetch.claims
        run = claim.edit.run
        with claim.log_context():
            timed = gateway.fetch_run(run.thread, run.upstream_id, self.clock, slot=slot)
        return Fetched(fetch, {run.upstream_id: timed}, began, time.monotonic())

    def _fetch_list(self, fetch: Fetch, began: float, slot: Slot) -> Fetched:
        thread = fetch.claims[0].edit.run.thread
        page = gateway.fetch_page(thread, self.clock, after=fetch.after, slot=slot)
        at = time.monotonic()
        wanted = {claim.edit.run.upstream_id for claim in fetch.claims}
        found = {
            record.upstream_id: page.of(record)
            for record in page.value.records
            if record.upstream_id in wanted and record.shows_metadata
        }
        ids = page.value.ids
        return Fetched(fetch, found, began, at, last=ids[-1] if ids else "", page=page)

    # --- Writes

    def write(self, intent: Intent) -> Job:
        # For anything that may have been sent the client raises UpstreamError.
        return self._job([intent.claim], lambda slot: self._write(intent, slot), is_unsent=True)

    def _write(self, intent: Intent, slot: Slot) -> Written | Outcome:
        if not intent.has_slot:
            self.spacer.wait(1)
        with suppress(NoSlot):  # The run is then fetched again.
            self.gate.wait_out_back_off(longest=(deciding.MAX_FETCH_AGE - intent.fetch_age).total_seconds())
        if stopped := self.gate.blocked(intent.claim) or deciding.stale_fetch(intent):
            return stopped
        began = time.monotonic()
        run = intent.claim.edit.run
        response: TimedResponse[RunRecord] | UpstreamError
        try:
            with intent.claim.log_context():
                response = gateway.write_run(
                    run.thread, run.upstream_id, intent.intended, self.clock, send_by=intent.send_by, slot=slot
                )
            self.gate.note_write(intent, response)
        except UpstreamError as error:
            response = error
            self.gate.note_error(error)
        return Written(intent, response, began, time.monotonic())

    # --- Others

    def probe(self, key: int, claims: list[Claim], targets: list[Target], error: UpstreamError, pause: float) -> Job:
        """Probes how far an error in the thread of these claims reaches, after `pause` seconds."""
        thread_id = claims[0].edit.run.thread.upstream_id

        def work(_: Slot) -> Probed:
            # The thread keeps its slot between these requests, because idle threads may hold all others.
            time.sleep(max(0.0, pause))
            try:
                reach = probes.send(self.alias, targets, thread_id=thread_id, is_outage=error.is_outage)
            except Exception:  # Other edits wait for this probe and must not wait forever.
                logger.exception("A probe of %s failed with an internal error.", self.alias)
                reach = Reach(responds=True, error=NotSent("The extent of the error could not be determined."))
            return Probed(key, reach)

        return self._job(claims, work)

    def sample(self, sample: Sample) -> Job:
        def work(slot: Slot) -> Sampled:
            try:
                return Sampled(gateway.fetch_page(sample.thread, self.clock, after=sample.after, slot=slot))
            except UpstreamError as error:
                self.gate.note_error(error)
                return Sampled(None)

        return self._job([], work)


def _concerns_the_list(error: UpstreamError) -> bool:
    """Whether a list failed for a reason that may not affect single runs, such as its size."""
    if error.slow_down or isinstance(error, ConnectionHeld | NoSlot) or error.http_status is None:
        return False
    return error.http_status < 500
