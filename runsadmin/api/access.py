"""Who is asking, and may they: tokens and sessions come in, `services.permissions` decides."""

from typing import TYPE_CHECKING, Any

from knox.auth import TokenAuthentication as KnoxTokenAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request

from runsadmin import log_context
from runsadmin.services import permissions

if TYPE_CHECKING:  # The framework's views import this module, by the settings.
    from rest_framework.views import APIView


class TokenAuthentication(KnoxTokenAuthentication):  # type: ignore[misc]
    """`Authorization: Token …`. One answer for every token that does not work: it tells a guesser nothing."""

    def authenticate_credentials(self, token: bytes) -> Any:
        try:
            if not token.isalnum():  # Tokens are hexadecimal; knox stumbles over some of the rest.
                raise AuthenticationFailed
            user, found = super().authenticate_credentials(token)
        except AuthenticationFailed:
            raise AuthenticationFailed(
                "This token does not work: it is unknown, has expired or was revoked, or its account is switched off. "
                "`manage.py create_token USER` makes a new one."
            ) from None
        log_context.is_by(user.get_username())
        return user, found


class Allowed(IsAuthenticated):
    """The view names the action that each method takes; methods that it does not have are refused later."""

    def has_permission(self, request: Request, view: "APIView") -> bool:
        if not super().has_permission(request, view):
            return False
        method = "GET" if request.method == "HEAD" else request.method
        if (action := getattr(view, "actions", {}).get(method)) is not None:
            assert request.user.is_authenticated
            permissions.require(request.user, action)
        return True
