"""One clock for all processes and machines: the database's."""

import datetime as dt
import time

from django.db import connection
from django.utils import timezone


def now() -> dt.datetime:
    """The database's time. A SQLite file is on this machine, so its time is that of the system clock."""
    if connection.vendor == "sqlite":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (moment,) = cursor.fetchone()
        return moment  # type: ignore[no-any-return]


class ClockBounds:
    """Reads the database's time once, and then gives bounds for the current time without further queries.

    It is valid for a few seconds: long enough for a block of requests, and too short for the clocks to drift apart.
    """

    def __init__(self) -> None:
        self._requested = time.monotonic()
        self._time = now()
        self._received = time.monotonic()

    def earliest(self) -> dt.datetime:
        """A time that is no later than now."""
        return self._time + dt.timedelta(seconds=time.monotonic() - self._received)

    def latest(self) -> dt.datetime:
        """A time that is no earlier than now."""
        return self._time + dt.timedelta(seconds=time.monotonic() - self._requested)
