"""The calls to upstream that the threads of the pool make, without using the database."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from runsadmin.errors import ConnectionHeld, NoSlot, NotSent, UpstreamError
from runsadmin.models import Thread
from runsadmin.services import gateway, probes
from runsadmin.services.clock import ClockBounds
from runsadmin.services.edits import deciding
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
class Result[T]:
    """What a call returned, or its error."""

    response: TimedResponse[T] | UpstreamError
    began: float  # In time.monotonic(), like `at`.
    at: float


class Calls:
    """The threads of the pool call these methods, each with its own slot."""

    def __init__(self, alias: str, gate: SendGate, spacer: RequestSpacer) -> None:
        self.alias = alias
        self.gate = gate
        self.spacer = spacer
        self.clock = ClockBounds()  # Renewed by the coordinator.

    def fetch_run(self, claim: Claim, slot: Slot) -> Result[RunRecord]:
        run = claim.edit.run
        self.spacer.wait(2)  # The second slot is for the write, which can then follow immediately.
        with claim.log_context():
            return self._fetch(lambda: gateway.fetch_run(run.thread, run.upstream_id, self.clock, slot=slot))

    def fetch_list(self, thread: Thread, after: str, slot: Slot) -> Result[Page]:
        self.spacer.wait(1)
        return self._fetch(lambda: gateway.fetch_page(thread, self.clock, after=after, slot=slot))

    def sample_list(self, thread: Thread, after: str, slot: Slot) -> Result[Page]:
        """Requests a list only to check whether it shows our own writes."""
        return self._send(lambda: gateway.fetch_page(thread, self.clock, after=after, slot=slot))

    def write(self, intent: Intent, slot: Slot) -> Result[RunRecord] | Outcome:
        """Returns the result of the write, or the outcome of the edit if it may no longer be sent."""
        if not intent.has_slot:
            self.spacer.wait(1)
        with suppress(NoSlot):  # The edit is then sent later, after another fetch.
            self.gate.wait_out_back_off(longest=(deciding.MAX_FETCH_AGE - intent.fetch_age).total_seconds())
        if stopped := self.gate.blocked(intent.claim) or deciding.stale_fetch(intent):
            return stopped
        run = intent.claim.edit.run
        with intent.claim.log_context():
            result = self._send(
                lambda: gateway.write_run(
                    run.thread, run.upstream_id, intent.intended, intent.send_by, self.clock, slot=slot
                )
            )
        if isinstance(result.response, TimedResponse):
            self.gate.note_write(intent, result.response)
        return result

    def probe(self, targets: list[Target], thread_id: str, error: UpstreamError, pause: float, slot: Slot) -> Reach:
        """Probes how far an error in this upstream thread reaches, after `pause` seconds.

        The worker thread keeps its slot between these requests, because idle threads may hold all other slots.
        """
        time.sleep(max(0.0, pause))
        try:
            return probes.send(self.alias, targets, thread_id=thread_id, is_outage=error.is_outage)
        except Exception:  # Other edits wait for this probe and must not wait forever.
            logger.exception("A probe of %s failed with an internal error.", self.alias)
            return Reach(responds=True, error=NotSent("The extent of the error could not be determined."))

    def _fetch[T](self, call: Callable[[], TimedResponse[T]]) -> Result[T]:
        began = time.monotonic()
        try:
            self.gate.wait_out_back_off()
        except NoSlot as error:
            return Result(error, began, time.monotonic())
        return self._send(call)

    def _send[T](self, call: Callable[[], TimedResponse[T]]) -> Result[T]:
        began = time.monotonic()
        try:
            return Result(call(), began, time.monotonic())
        except UpstreamError as error:
            self.gate.note_error(error)
            return Result(error, began, time.monotonic())


def concerns_the_list(error: UpstreamError) -> bool:
    """Whether a list failed for a reason that may not affect single runs, such as its size."""
    if error.slow_down or isinstance(error, ConnectionHeld | NoSlot) or error.http_status is None:
        return False
    return error.http_status < 500
