"""The rate limit of an account: a burst of up to a minute's worth of requests, then a steady rate.

All processes share the limit through the database. They take requests from it in blocks of about a second's worth, so
that most requests cost no write.
"""

import datetime as dt
import threading

from django.contrib.auth.models import User
from django.db import transaction

from runsadmin import conf
from runsadmin.models import ApiRateState
from runsadmin.services import clock

MINUTE = dt.timedelta(minutes=1)

# How many requests this process has taken for each account and not used yet.
_taken: dict[int, int] = {}
_lock = threading.Lock()


def use_one(user: User) -> float:
    """Uses one of the account's requests and returns 0, or returns how many seconds to wait if none is left."""
    limit = conf.api_requests_per_minute()
    with _lock:
        if not limit or _use_taken(user.pk):
            return 0
    count, wait = _take(user, limit)
    if not count:
        return wait
    with _lock:
        _taken[user.pk] += count - 1
    return 0


def _use_taken(pk: int) -> bool:
    left = _taken.get(pk, 0)
    _taken[pk] = max(left - 1, 0)
    return left > 0


def _take(user: User, limit: int) -> tuple[int, float]:
    """Takes a block of requests, or as many as are left. Returns how many, and the seconds to wait if none."""
    now, each = clock.now(), MINUTE // limit
    with transaction.atomic():
        quota, _ = ApiRateState.objects.select_for_update().get_or_create(user=user, defaults={"free_at": now})
        busy_until = max(quota.free_at, now)
        room = now + MINUTE - busy_until
        count = min(room // each, max(1, limit // 60))
        if count > 0:
            ApiRateState.objects.filter(pk=user.pk).update(free_at=busy_until + count * each)
    return count, (each - room).total_seconds()
