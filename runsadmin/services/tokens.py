"""Tokens for the REST API: they belong to a user, are stored hashed, and expire."""

import datetime as dt

from django.contrib.auth.models import User
from django.utils import timezone
from knox.models import AuthToken


def create(*, user: User, expires_in: dt.timedelta | None) -> str:
    """Creates a token and returns it; it cannot be read later. If `expires_in` is None, the token never expires."""
    _, token = AuthToken.objects.create(user=user, expiry=expires_in)
    return str(token)


def delete_expired() -> int:
    """Deletes expired tokens. Returns how many there were."""
    count, _ = AuthToken.objects.filter(expiry__lt=timezone.now()).delete()
    return int(count)
