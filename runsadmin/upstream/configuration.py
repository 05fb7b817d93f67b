"""What of a connection's settings cannot be sent as it is.

System checks name it at start, and the client names it instead of sending. No message repeats a value.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from runsadmin import conf

_SCHEME = re.compile(r"(bearer|basic|token)(\s|$)|[\w-]*(authorization|api[_-]?key|bearer|token)\s*[:=]", re.IGNORECASE)
_QUOTES = "'\"`"
# The last part of an address that is no base address: the calls add it themselves.
_CALLS = ("threads", "runs", "assistants", "completions", "responses")


@dataclass(frozen=True)
class Mistake:
    """`setting` is the variable's name; `option` the part of it that all connections share, such as API_KEY."""

    setting: str
    option: str
    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.message} {self.hint}"


def mistakes(connection: conf.Connection) -> Iterator[Mistake]:
    key = connection.api_key if connection.auth != "azure-identity" else ""
    for option, value, is_wrong, hint in (
        (
            "URL",
            connection.url,
            _wrong_url,
            "Set the base address up to its version, such as https://upstream.example/v1.",
        ),
        ("API_KEY", key, _wrong_key, "Set the key alone, as the upstream gave it."),
        ("ORGANIZATION", connection.organization, _wrong_value, "Set the id alone, or leave it out."),
        ("PROJECT", connection.project, _wrong_value, "Set the id alone, or leave it out."),
        ("API_VERSION", connection.api_version, _wrong_version, "Set the version alone, such as 2024-05-01-preview."),
        ("AZURE_SCOPE", connection.azure_scope, _wrong_value, "Set a scope, such as https://ai.azure.com/.default."),
    ):
        if wrong := is_wrong(value):
            setting = connection.setting(option)
            yield Mistake(setting, option, f"The setting {setting} {wrong}.", hint)


def _wrong_value(value: str) -> str:
    """Why this cannot be the value of a header; empty when it can."""
    if value.startswith(("\ufeff", " ", "\t", "\n", "\r", "\xa0")) or value != value.strip():
        return "begins or ends with white space"
    if any(quote in value for quote in "“”„‘’«»"):
        return "has typographic quotation marks in it"
    if "\n" in value or "\r" in value:
        return "has a line break in it"
    if not value.isascii() or not value.isprintable():
        return "has characters in it that no header can carry"
    if value and (value[0] in _QUOTES or value[-1] in _QUOTES):
        return "begins or ends with a quotation mark"
    return ""


def _wrong_key(value: str) -> str:
    if wrong := _wrong_value(value):
        return wrong
    if _SCHEME.match(value):
        return "begins with the name of a header or of its scheme, which is added by itself"
    return ""


def _wrong_version(value: str) -> str:
    if wrong := _wrong_value(value):
        return wrong
    return "holds more than a version" if re.search(r"[\s?&=/]", value) else ""


def _wrong_url(value: str) -> str:
    if not value.isascii() or not value.isprintable() or " " in value:
        return "has characters in it that no address can carry"
    last = urlsplit(value).path.rstrip("/").rpartition("/")[2]
    if last in _CALLS or "/threads/thread_" in value:
        return "ends in a call of the API instead of before it"
    return ""
