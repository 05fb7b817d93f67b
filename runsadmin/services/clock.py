"""One clock for all processes and machines: the database's."""

import datetime as dt

from django.db import connection
from django.utils import timezone


def now() -> dt.datetime:
    """The time by the clock of the database. A SQLite file lives on this machine, and so does its clock."""
    if connection.vendor == "sqlite":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (time,) = cursor.fetchone()
        return time  # type: ignore[no-any-return]
