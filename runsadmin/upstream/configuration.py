"""Finds settings of a connection that cannot be sent.

System checks report them at startup, and the client refuses to send. Error messages never contain a value.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from runsadmin import conf

_SCHEME = re.compile(r"(bearer|basic|token)(\s|$)|[\w-]*(authorization|api[_-]?key|bearer|token)\s*[:=]", re.IGNORECASE)
_QUOTES = "'\"`"
# A base URL must not end in one of these, which are part of API calls.
_CALLS = ("threads", "runs", "assistants", "completions", "responses")


@dataclass(frozen=True)
class SettingError:
    """`option` is the last part of the name of the environment variable, such as API_KEY."""

    option: str
    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.message} {self.hint}"


def errors(connection: conf.Connection) -> Iterator[SettingError]:
    key = connection.api_key if connection.auth != "azure-identity" else ""
    for option, value, is_wrong, hint in (
        ("URL", connection.url, _wrong_url, "Set the base URL up to the version, such as https://upstream.example/v1."),
        ("API_KEY", key, _wrong_key, "Set only the key, as issued by the upstream."),
        ("ORGANIZATION", connection.organization, _wrong_value, "Set only the id, or remove the setting."),
        ("PROJECT", connection.project, _wrong_value, "Set only the id, or remove the setting."),
        ("API_VERSION", connection.api_version, _wrong_version, "Set only the version, such as 2024-05-01-preview."),
        ("AZURE_SCOPE", connection.azure_scope, _wrong_value, "Set a scope, such as https://ai.azure.com/.default."),
    ):
        if wrong := is_wrong(value):
            yield SettingError(option, f"The setting {connection.setting(option)} {wrong}.", hint)


def _wrong_value(value: str) -> str:
    """Why this cannot be the value of a header. Empty if it can."""
    if value.startswith(("\ufeff", " ", "\t", "\n", "\r", "\xa0")) or value != value.strip():
        return "begins or ends with whitespace"
    if any(quote in value for quote in "“”„‘’«»"):
        return "contains typographic quotation marks"
    if "\n" in value or "\r" in value:
        return "contains a line break"
    if not value.isascii() or not value.isprintable():
        return "contains characters that are not allowed in a header"
    if value and (value[0] in _QUOTES or value[-1] in _QUOTES):
        return "begins or ends with a quotation mark"
    return ""


def _wrong_key(value: str) -> str:
    scheme = "begins with a header name or an authentication scheme, which is added automatically"
    return _wrong_value(value) or (scheme if _SCHEME.match(value) else "")


def _wrong_version(value: str) -> str:
    return _wrong_value(value) or ("contains more than a version" if re.search(r"[\s?&=/]", value) else "")


def _wrong_url(value: str) -> str:
    if not value.isascii() or not value.isprintable() or " " in value:
        return "contains characters that are not allowed in a URL"
    last = urlsplit(value).path.rstrip("/").rpartition("/")[2]
    if last in _CALLS or "/threads/thread_" in value:
        return "includes the path of an API call"
    return ""
