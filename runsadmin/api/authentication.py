"""Token authentication. Session authentication is Django REST framework's own."""

from typing import Any

from knox.auth import TokenAuthentication as KnoxTokenAuthentication
from rest_framework.exceptions import AuthenticationFailed

from runsadmin import log_context


class TokenAuthentication(KnoxTokenAuthentication):  # type: ignore[misc]
    """`Authorization: Token …`. All tokens that do not work get the same error, so that guessing reveals nothing."""

    def authenticate_credentials(self, token: bytes) -> Any:
        try:
            if not token.isalnum():  # Tokens are hexadecimal; knox fails on some other input.
                raise AuthenticationFailed
            user, auth_token = super().authenticate_credentials(token)
        except AuthenticationFailed:
            raise AuthenticationFailed(
                "This token does not work: it is unknown, expired or revoked, or its account is inactive. "
                "`manage.py create_token USER` creates a new one."
            ) from None
        log_context.set_user(user.get_username())
        return user, auth_token
