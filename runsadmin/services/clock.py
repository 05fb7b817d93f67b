"""One clock for all processes and machines: the database's."""

import datetime as dt
import time

from django.db import connection
from django.utils import timezone


def now() -> dt.datetime:
    """The time by the clock of the database. A SQLite file lives on this machine, and so does its clock."""
    if connection.vendor == "sqlite":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (moment,) = cursor.fetchone()
        return moment  # type: ignore[no-any-return]


class ClockBounds:
    """Set by the database's clock once, it tells between which times now is, without asking again.

    Good for some seconds: long enough for a block of requests, too short for clocks to drift apart.
    """

    def __init__(self) -> None:
        self._asked = time.monotonic()
        self._time = now()
        self._answered = time.monotonic()

    def earliest(self) -> dt.datetime:
        """No later than now."""
        return self._time + dt.timedelta(seconds=time.monotonic() - self._answered)

    def latest(self) -> dt.datetime:
        """No earlier than now."""
        return self._time + dt.timedelta(seconds=time.monotonic() - self._asked)
