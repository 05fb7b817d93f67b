"""The credentials of a connection: a fixed key, or a token from Microsoft Entra ID that is renewed in time."""

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from typing import Any

from requests import PreparedRequest
from requests.auth import AuthBase

from runsadmin.conf import Connection
from runsadmin.errors import ConnectionHeld

# Request a new token this many seconds before the old one expires.
RENEW_BEFORE = 300.0

_ENTRA_ERROR = re.compile(r"AADSTS\d+: [^\r\n]{1,200}")


class Header(AuthBase):
    """Sets the header with the credentials. `value` is called for every request, since tokens are renewed."""

    def __init__(self, name: str, value: Callable[[], str], *, scheme: str = "") -> None:
        self.name = name
        self.value = value
        self.scheme = scheme
        # The last value sent, which error messages must not show.
        self.secret = ""

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Raises ConnectionHeld if there are no credentials."""
        self.secret = self.value()
        request.headers[self.name] = f"{self.scheme} {self.secret}" if self.scheme else self.secret
        return request


def of(connection: Connection) -> Header:
    match connection.auth:
        case "api-key":
            return Header("api-key", lambda: connection.api_key)
        case "azure-identity":
            return Header("Authorization", lambda: _azure_token(connection), scheme="Bearer")
        case _:
            return Header("Authorization", lambda: connection.api_key, scheme="Bearer")


def _azure_token(connection: Connection) -> str:
    """Raises ConnectionHeld for any error: without a token nothing can be sent on this connection."""
    try:
        # An optional package. A system check warns if it is missing.
        from azure.identity import DefaultAzureCredential
    except ImportError:
        raise ConnectionHeld(
            "There is no Azure token: azure-identity is not installed. Install it and restart."
        ) from None
    key = (DefaultAzureCredential, connection.azure_scope)
    return _tokens.setdefault(key, _CachedToken(*key)).get(timeout=connection.timeout.total_seconds())


class _CachedToken:
    """The token of one scope, shared by all threads and reused until it is about to expire.

    A credential retries on its own, for minutes if the identity endpoint hangs. It is called in a separate thread, so
    that no request waits longer than its timeout.
    """

    def __init__(self, credential_class: Callable[[], Any], scope: str) -> None:
        self._credential_class = credential_class
        self._scope = scope
        self._lock = threading.Lock()
        self._cached = ("", 0.0)  # The token, and when it expires.
        self._pending: Future[str] | None = None

    def get(self, *, timeout: float) -> str:
        with self._lock:
            token, expires_at = self._cached
            if time.time() < expires_at - RENEW_BEFORE:
                return token
            if self._pending is None or self._pending.done():
                self._pending = Future()
                threading.Thread(target=self._fetch, args=[self._pending], daemon=True, name="azure-token").start()
            pending = self._pending
        try:
            return pending.result(timeout)
        except TimeoutError:
            why = "the identity endpoint took too long to respond."
        except BaseException as error:  # noqa: BLE001 - Credentials may raise anything.
            why = _message(error)
        if time.time() < expires_at:
            return token
        raise ConnectionHeld(f"There is no Azure token: {why} Check the managed identity, or the AZURE_… variables.")

    def _fetch(self, future: Future[str]) -> None:
        try:
            with _credential_lock:
                credential = _credential(self._credential_class)
            response = credential.get_token(self._scope)
            token = response.token
            if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
                raise ValueError("The response is not a token.")
            with self._lock:
                self._cached = (token, float(response.expires_on))
        except BaseException as error:  # noqa: BLE001 - Passed on to the waiting threads.
            future.set_exception(error)
        else:
            future.set_result(token)


_tokens: dict[tuple[Callable[[], Any], str], _CachedToken] = {}
_credential_lock = threading.Lock()


@cache
def _credential(credential_class: Callable[[], Any]) -> Any:
    """One credential for all scopes, since it has its own cache."""
    return credential_class()


def _message(error: BaseException) -> str:
    """The first line and Entra's error. Not the whole text, which may quote the response of the identity endpoint."""
    text = str(error)
    first = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    found = _ENTRA_ERROR.search(text)
    message = first if found is None or found[0] in first else f"{first} {found[0]}"
    message = "".join(char if char.isprintable() else "\ufffd" for char in message[:300]).rstrip(". ")
    return f"{message}."
