"""Token authentication. Session authentication is Django REST framework's own."""

import datetime as dt

from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone
from knox.auth import TokenAuthentication as KnoxTokenAuthentication
from knox.crypto import hash_token
from knox.models import AuthToken
from rest_framework.exceptions import AuthenticationFailed

from runsadmin import log_context
from runsadmin.models import TokenDetails
from runsadmin.services import tokens

# The fields of an account that requests read, in the model's order. The other fields are deferred.
_FIELDS = ("id", "is_superuser", "username", "is_active")
# In SQL, since every request runs this query: with the ORM, it would take a tenth of the time of a list.
_OWNER = f"""
SELECT details.last_used_on, {", ".join(f"account.{field}" for field in _FIELDS)}
FROM {User._meta.db_table} account JOIN {AuthToken._meta.db_table} token ON token.user_id = account.id
LEFT JOIN {TokenDetails._meta.db_table} details ON details.token_id = token.digest
WHERE token.digest = %s AND (token.expiry IS NULL OR token.expiry > %s) AND account.is_active
"""  # noqa: S608


class TokenAuthentication(KnoxTokenAuthentication):  # type: ignore[misc]
    """`Authorization: Token …`. All tokens that do not work get the same error, so that guessing reveals nothing."""

    def authenticate_credentials(self, token: bytes) -> tuple[User, None]:
        """Unlike knox's own method, leaves expired tokens: a GET writes only that its token was used, once a day."""
        user = _owner(token.decode()) if token.isalnum() else None  # Tokens are hexadecimal.
        if user is None:
            raise AuthenticationFailed(
                "This token does not work: it is unknown, expired or revoked, or its account is inactive. "
                "`manage.py create_token USER` creates a new one."
            )
        log_context.set_user(user.get_username())
        return user, None


def _owner(token: str) -> User | None:
    """The active account of a valid token, whose use is recorded."""
    digest, now = hash_token(token), timezone.now()
    with connection.cursor() as cursor:
        cursor.execute(_OWNER, [digest, connection.ops.adapt_datetimefield_value(now)])
        row = cursor.fetchone()
    if row is None:
        return None
    last_used_on, *account = row
    today = now.astimezone(dt.UTC).date()
    if str(last_used_on) != str(today):  # SQLite returns text.
        tokens.note_use(digest, today)
    return User.from_db(connection.alias, _FIELDS, account)
