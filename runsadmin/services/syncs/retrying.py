"""Retries reading calls after temporary errors."""

import time
from collections.abc import Callable

from runsadmin.errors import NotSent, TooLarge, UpstreamError
from runsadmin.models import Thread
from runsadmin.services import connections
from runsadmin.services.clock import ClockBounds
from runsadmin.services.gateway import TimedResponse
from runsadmin.services.syncs.claimed import MAX_TRIES

# Seconds. Doubled after each error.
FIRST_PAUSE = 0.5


def with_retry[T](thread: Thread, call: Callable[[ClockBounds], TimedResponse[T]]) -> TimedResponse[T]:
    """Raises UpstreamError."""
    faults = 0
    while True:
        # After a 429, the back-off has postponed the next slot.
        connections.wait_for_slots(thread.connection_settings, 1)
        try:
            return call(ClockBounds())
        except TooLarge:  # Only a smaller limit helps.
            raise
        except UpstreamError as error:
            connections.apply_error(thread.connection, error)
            faults += 1
            if not isinstance(error, NotSent) or faults == MAX_TRIES:
                raise
            if not error.slow_down:
                time.sleep(FIRST_PAUSE * 2**faults)
