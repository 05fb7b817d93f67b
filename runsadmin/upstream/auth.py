"""How a connection proves who it is. Kept in an auth object, so that no netrc file overrides it."""

from collections.abc import Callable

from requests import PreparedRequest
from requests.auth import AuthBase

from runsadmin.conf import Connection

AZURE_SCOPE = "https://ai.azure.com/.default"


class Header(AuthBase):
    """Sets one header. `value` is called for every request, since a token may have been renewed."""

    def __init__(self, name: str, value: Callable[[], str]) -> None:
        self.name = name
        self.value = value

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers[self.name] = self.value()
        return request


def of(connection: Connection) -> Header:
    match connection.auth:
        case "api-key":
            return Header("api-key", lambda: connection.api_key)
        case "azure-identity":
            # An extra package of the operator's: a system check says so when it is missing.
            from azure.identity import DefaultAzureCredential, get_bearer_token_provider

            token = get_bearer_token_provider(DefaultAzureCredential(), AZURE_SCOPE)
            return Header("Authorization", lambda: f"Bearer {token()}")
        case _:
            return Header("Authorization", lambda: f"Bearer {connection.api_key}")
