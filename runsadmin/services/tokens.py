"""Tokens for the REST API: they belong to a user, are stored hashed, and expire."""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.contrib.auth.models import User
from django.db import DatabaseError, connection, transaction
from django.db.models import QuerySet
from django.utils import timezone
from knox.models import AuthToken
from knox.settings import CONSTANTS

from runsadmin import db_errors
from runsadmin.errors import InvalidToken
from runsadmin.models import TokenDetails

SHOWN_LENGTH = 8  # How many characters of a token identify it in lists.


def create(*, user: User, expires_in: dt.timedelta | None, name: str = "") -> str:
    """Creates a token and returns it; it cannot be read later. If `expires_in` is None, the token never expires."""
    with transaction.atomic():
        row, token = AuthToken.objects.create(user=user, expiry=expires_in)
        if name:
            TokenDetails.objects.create(token=row, name=name)
    return str(token)


def newest_first() -> QuerySet[AuthToken]:
    found: QuerySet[AuthToken] = AuthToken.objects.select_related("user", "details").order_by("-created")
    return found


def find(beginning: str) -> AuthToken:
    """The token that begins with this text. Raises InvalidToken if there is none, or more than one."""
    if len(beginning) < SHOWN_LENGTH:
        raise InvalidToken(f"{beginning!r} is too short. Give at least {SHOWN_LENGTH} characters of the token.")
    stored = beginning[: CONSTANTS.TOKEN_KEY_LENGTH]  # Only the hash of the rest is stored.
    match list(newest_first().filter(token_key__startswith=stored)[:2]):
        case [token]:
            return token
        case []:
            raise InvalidToken(f"No token begins with {beginning!r}. `manage.py tokens` lists them.")
        case _:
            raise InvalidToken(f"Several tokens begin with {beginning!r}. Give more characters.")


def revoke(token: AuthToken) -> None:
    """Requests with this token get a 401 from now on."""
    token.delete()


def note_use(digest: str, today: dt.date) -> None:
    """Records that a token was used on this day.

    A GET must not wait for a writer or need a writable database. So if this fails, the next request tries again.
    """
    with suppress(DatabaseError), db_errors.not_watching(), _without_waiting():
        if not TokenDetails.objects.filter(pk=digest).update(last_used_on=today):
            TokenDetails.objects.create(pk=digest, last_used_on=today)


def delete_expired() -> int:
    """Deletes expired tokens. Returns how many there were."""
    return int(AuthToken.objects.filter(expiry__lt=timezone.now()).delete()[1].get(AuthToken._meta.label, 0))


@contextmanager
def _without_waiting() -> Iterator[None]:
    """On SQLite, statements fail at once if another process is writing. PostgreSQL locks only rows."""
    if connection.vendor != "sqlite":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout")
        (milliseconds,) = cursor.fetchone()
        cursor.execute("PRAGMA busy_timeout = 0")
        try:
            yield
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {milliseconds:d}")
