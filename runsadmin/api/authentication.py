"""Token authentication. Session authentication is Django REST framework's own."""

from typing import Any

from django.utils import timezone
from knox.auth import TokenAuthentication as KnoxTokenAuthentication
from knox.crypto import hash_token
from knox.models import AuthToken
from rest_framework.exceptions import AuthenticationFailed

from runsadmin import log_context


class TokenAuthentication(KnoxTokenAuthentication):  # type: ignore[misc]
    """`Authorization: Token …`. All tokens that do not work get the same error, so that guessing reveals nothing."""

    def authenticate_credentials(self, token: bytes) -> Any:
        """Unlike knox's own method, it does not delete expired tokens: a read writes nothing."""
        auth_token = _find(token.decode()) if token.isalnum() else None  # Tokens are hexadecimal.
        if auth_token is None or not auth_token.user.is_active:
            raise AuthenticationFailed(
                "This token does not work: it is unknown, expired or revoked, or its account is inactive. "
                "`manage.py create_token USER` creates a new one."
            )
        log_context.set_user(auth_token.user.get_username())
        return auth_token.user, auth_token


def _find(token: str) -> Any:
    """The token, unless it is unknown or has expired."""
    try:
        found = AuthToken.objects.select_related("user").get(digest=hash_token(token))
    except AuthToken.DoesNotExist:
        return None
    return found if found.expiry is None or found.expiry > timezone.now() else None
