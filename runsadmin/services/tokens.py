"""Tokens for the REST API: they belong to a user, are stored hashed, and expire."""

import datetime as dt

from django.contrib.auth.models import User
from knox.models import AuthToken


def create(*, user: User, expires_in: dt.timedelta | None) -> str:
    """Makes a token and returns it: this is the only time that it can be read. None: it never expires."""
    _, token = AuthToken.objects.create(user=user, expiry=expires_in)
    return str(token)


def revoke_all(*, user: User) -> int:
    count, _ = AuthToken.objects.filter(user=user).delete()
    return int(count)
