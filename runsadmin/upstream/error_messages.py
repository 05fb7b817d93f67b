"""Extracts the server's message from the body of an error response, in linear time and without raising exceptions."""

import html
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any
from urllib.parse import quote

from runsadmin import lenient_json
from runsadmin.upstream.body import charset_of

MAX_LENGTH = 300
# A longer body is not parsed: its beginning is shown as text.
_MAX_JSON_LENGTH = 262_144
_MAX_TEXT_LENGTH = 65_536
_MAX_DEPTH = 8
_MAX_MESSAGES = 20
_MAX_VALUES = 2000

# Keys of messages, the most informative first. All keys are compared in lower case and without _ and -.
_MESSAGES = (
    "message", "msg", "errormessage", "errormsg", "errmsg", "errordescription", "faultstring", "detail", "error",
    "description", "reason", "title", "err", "cause", "exception", "value",
)  # fmt: skip
# Keys that identify the error if there is no message.
_CODES = ("code", "errorcode", "type", "statustext")
# Keys of the error itself, and of additional details.
_ERRORS = ("error", "fault", "message", "err")
_MORE = (
    "detail", "details", "errors", "errormessages", "innererror", "innererrors", "inner", "cause", "causes",
    "rootcause", "exception", "issues",
)  # fmt: skip
# Keys under which some servers wrap the whole response.
_WRAPPERS = ("data", "response", "body", "result", "content")
# Keys that say which field an error in a list of errors is about.
_FIELDS_OF_ERRORS = ("loc", "field", "pointer", "path", "param", "source", "property", "location")

_HTML = re.compile(r"\s*<(!doctype|html|head|title|body|h1|center|p|div)\b", re.IGNORECASE)
_XML_MESSAGE = re.compile(
    r"<(?:\w+:)?(message|faultstring|reason|detail|title|description)\b[^<>]*>([^<>]+)<", re.IGNORECASE
)
_SCRIPT = re.compile(r"<(script|style)\b.*?(?:</\1\b[^<>]*>|\Z)", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^<>]*>")
_EVENT = re.compile(r"^data: ?([{\[].*)$", re.MULTILINE)
# Control characters, characters that change the text direction, and lone surrogates.
_INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)


def of(content: bytes, content_type: str = "", *, secret: str = "") -> str:
    """The message: at most 300 characters, without the secret. Empty only if the body is empty or whitespace."""
    is_whole = len(content) <= _MAX_JSON_LENGTH
    text = _decoded(content[:_MAX_JSON_LENGTH], content_type).strip()
    found = _from_json(text) if is_whole else ""
    text = text[:_MAX_TEXT_LENGTH]
    return _clean(found, secret) or _clean(_from_markup(text, content_type), secret) or _clean(text, secret)


# --- JSON


def _from_json(text: str) -> str:
    event = _EVENT.search(text)
    try:
        value = lenient_json.loads(event[1] if event else text)
    except ValueError:
        return ""
    found = ""
    for each in dict.fromkeys(filter(None, map(str.strip, _Reader().more(value, 0)[:_MAX_MESSAGES]))):
        found = f"{found}{' ' if found.endswith(('.', '!', '?', ':')) else '; '}{each}" if found else each
    return found


class _Reader:
    """Finds messages in a JSON value, visiting a limited number of its values."""

    def __init__(self) -> None:
        self.left = _MAX_VALUES

    def messages(self, value: object, depth: int) -> list[str]:
        self.left -= 1
        if depth > _MAX_DEPTH or self.left < 0:
            return []
        match value:
            case str():
                return self.in_text(value, depth)
            case list():
                return [
                    f"{field}: {message}" if field else message
                    for field, item in ((_field(item), item) for item in value[:_MAX_MESSAGES])
                    for message in self.messages(item, depth + 1)
                ]
            case Mapping():
                return self.in_object(value, depth)
        return []

    def in_text(self, text: str, depth: int) -> list[str]:
        """Some gateways embed the JSON of the server behind them in a string."""
        if text.lstrip().startswith(("{", "[")):
            with suppress(ValueError):
                return self.messages(lenient_json.loads(text), depth + 1) or [text]
        return [text]

    def in_object(self, value: Mapping[str, Any], depth: int) -> list[str]:
        fields = {name.lower().replace("_", "").replace("-", ""): item for name, item in value.items()}
        texts = {name: item for name, item in fields.items() if isinstance(item, str) and item.strip()}
        containers = {name: item for name, item in fields.items() if isinstance(item, Mapping | list)}

        def below(names: Iterable[str], read: Callable[[object, int], list[str]] = self.messages) -> list[str]:
            return [message for name in names if name in containers for message in read(containers[name], depth + 1)]

        main = next((texts[name] for name in _MESSAGES if name in texts), "")
        found = below(_ERRORS) + (self.in_text(main, depth) if main else []) + below(_MORE, self.more)
        return found or below(_WRAPPERS) or [texts[name] for name in _CODES if name in texts]

    def more(self, value: object, depth: int) -> list[str]:
        """The messages of errors, or of errors by field, as in `{"errors": {"name": ["is too long"]}}`."""
        found = self.messages(value, depth)
        if found or not isinstance(value, Mapping):
            return found
        return [
            f"{name}: {message}"
            for name, item in islice(value.items(), _MAX_MESSAGES)
            for message in self.messages(item, depth + 1)
            if message.strip()
        ]


def _field(item: object) -> str:
    """The field that an error is about: body.metadata.0 for `{"loc": ["body", "metadata", 0], "msg": …}`."""
    if not isinstance(item, Mapping):
        return ""
    for name in _FIELDS_OF_ERRORS:
        match item.get(name):
            case str(field) if field:
                return field
            case [*parts] if parts and all(isinstance(part, str | int) for part in parts):
                return ".".join(str(part) for part in parts[:_MAX_MESSAGES])
            case {"pointer": str(field)} | {"parameter": str(field)}:
                return field
    return ""


# --- HTML, XML and text


def _from_markup(text: str, content_type: str) -> str:
    if "html" in content_type.lower() or _HTML.match(text):
        return html.unescape(_element(text, "title") or _element(text, "h1") or _without_tags(text))
    if text.startswith("<"):
        text = text.replace("<![CDATA[", "").replace("]]>", "")
        messages = [match[2] for match in islice(_XML_MESSAGE.finditer(text), _MAX_MESSAGES)]
        return html.unescape("; ".join(dict.fromkeys(messages)) or _without_tags(text))
    return text


def _element(text: str, name: str) -> str:
    """The text of the first element with this name that has any."""
    for match in islice(re.finditer(rf"<{name}\b", text, re.IGNORECASE), 3):
        begins = text.find(">", match.end()) + 1
        ends = re.compile(rf"</{name}\b", re.IGNORECASE).search(text, begins) if begins else None
        if ends and (content := _TAG.sub(" ", text[begins : ends.start()]).strip()):
            return content
    return ""


def _without_tags(text: str) -> str:
    return _TAG.sub(" ", _SCRIPT.sub(" ", text)).strip()


# --- Text


def _decoded(content: bytes, content_type: str) -> str:
    """Decodes as UTF-8, unless the Content-Type names another charset. Invalid bytes become U+FFFD."""
    try:
        return content.decode(charset_of(content_type), "replace").removeprefix("\ufeff")
    except ValueError:
        return content.decode("utf-8-sig", "replace")


def _clean(text: str, secret: str) -> str:
    """One line of at most 300 characters, without the secret and without invisible characters."""
    text = _INVISIBLE.sub("\ufffd", " ".join(_masked(text, secret).split()))
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 1].rstrip()}…"


def _masked(text: str, secret: str) -> str:
    """Masks the secret. A short secret is masked only as a whole word, one of fewer than four characters not at all."""
    if len(secret) < 4:
        return text
    for form in {secret, secret.replace("/", "\\/"), quote(secret, safe=""), html.escape(secret)}:
        if len(form) >= 8:
            text = text.replace(form, "[our key]")
        else:
            text = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", "[our key]", text)
    return text
