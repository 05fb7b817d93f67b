"""Extracts the server's message from the body of an error response: linear time, and no exception for any body."""

import html
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any
from urllib.parse import quote

from runsadmin import lenient_json
from runsadmin.upstream import charsets

MAX_LENGTH = 300
# A longer body is not parsed: its beginning is shown as text.
_LONGEST_JSON = 262_144
_LONGEST_TEXT = 65_536
_DEEPEST = 8
_MOST_WORDS = 20
_MOST_VALUES = 2000

# Keys of a message, the most informative first. All keys are compared in lower case and without _ and -.
_MESSAGES = (
    "message",
    "msg",
    "errormessage",
    "errormsg",
    "errmsg",
    "errordescription",
    "faultstring",
    "detail",
    "error",
    "description",
    "reason",
    "title",
    "err",
    "cause",
    "exception",
    "value",
)
# Keys that at least name the error if there is no message.
_CODES = ("code", "errorcode", "type", "statustext")
# Keys of the error itself, and of additional details.
_ERRORS = ("error", "fault", "message", "err")
_MORE = (
    "detail",
    "details",
    "errors",
    "errormessages",
    "innererror",
    "innererrors",
    "inner",
    "cause",
    "causes",
    "rootcause",
    "exception",
    "issues",
)
# Keys under which some servers wrap the whole response.
_WRAPPERS = ("data", "response", "body", "result", "content")
# Keys that say which field an item of a list of errors concerns.
_PLACES = ("loc", "field", "pointer", "path", "param", "source", "property", "location")

_HTML = re.compile(r"\s*<(!doctype|html|head|title|body|h1|center|p|div)\b", re.IGNORECASE)
_XML_WORDS = re.compile(
    r"<(?:\w+:)?(message|faultstring|reason|detail|title|description)\b[^<>]*>([^<>]+)<", re.IGNORECASE
)
_TAG = re.compile(r"<[^<>]*>")
_EVENT = re.compile(r"^data: ?([{\[].*)$", re.MULTILINE)
# Control characters, characters that change the text direction, and lone surrogates.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)


def of(content: bytes, content_type: str = "", *, secret: str = "") -> str:
    """The message, at most 300 characters without the secret. Empty only if the body is empty or white space."""
    is_whole = len(content) <= _LONGEST_JSON
    text = _decoded(content[:_LONGEST_JSON], content_type).strip()
    found = _from_json(text) if is_whole else ""
    text = text[:_LONGEST_TEXT]
    return _clean(found, secret) or _clean(_from_markup(text, content_type), secret) or _clean(text, secret)


def message_in(value: object) -> str:
    """The message in a JSON value. Empty for an object without known keys."""
    return _joined(_Reader().messages(value, 0))


# --- JSON


def _from_json(text: str) -> str:
    event = _EVENT.search(text)
    try:
        value = lenient_json.loads(event[1] if event else text)
    except ValueError:
        return ""
    if not isinstance(value, Mapping | list | str):
        return ""
    return message_in(value) or (_joined(_Reader().pairs(value, 0)) if isinstance(value, Mapping) else "")


def _joined(words: Iterator[str]) -> str:
    text = ""
    for each in dict.fromkeys(word for each in islice(words, _MOST_WORDS) if (word := each.strip())):
        text = f"{text}{' ' if text.endswith(('.', '!', '?', ':')) else '; '}{each}" if text else each
    return text


class _Reader:
    """Finds messages in a JSON value, visiting a limited number of its values."""

    def __init__(self) -> None:
        self.left = _MOST_VALUES

    def messages(self, value: object, depth: int) -> Iterator[str]:
        self.left -= 1
        if depth > _DEEPEST or self.left < 0:
            return
        match value:
            case str():
                yield from self.in_text(value, depth)
            case list():
                for item in value[:_MOST_WORDS]:
                    slot = _place(item)
                    yield from (f"{slot}: {words}" if slot else words for words in self.messages(item, depth + 1))
            case Mapping():
                yield from self.in_object(value, depth)

    def in_text(self, text: str, depth: int) -> Iterator[str]:
        """Some gateways embed the JSON of the server behind them in a string."""
        found = False
        if text.lstrip().startswith(("{", "[")):
            try:
                inner = lenient_json.loads(text)
            except ValueError:
                inner = None
            for words in self.messages(inner, depth + 1):
                found = True
                yield words
        if not found:
            yield text

    def in_object(self, value: Mapping[str, Any], depth: int) -> Iterator[str]:
        fields = {name.lower().replace("_", "").replace("-", ""): item for name, item in value.items()}
        texts = {name: item for name, item in fields.items() if isinstance(item, str) and item.strip()}
        containers = {name: item for name, item in fields.items() if isinstance(item, Mapping | list)}
        found = False
        for words in self.parts(texts, containers, depth):
            found = True
            yield words
        for name in () if found else _WRAPPERS:
            for words in self.messages(containers.get(name), depth + 1):
                found = True
                yield words
        if not found:
            yield from (texts[name] for name in _CODES if name in texts)

    def parts(self, texts: Mapping[str, str], containers: Mapping[str, object], depth: int) -> Iterator[str]:
        for name in _ERRORS:
            yield from self.messages(containers.get(name), depth + 1)
        if main := next((texts[name] for name in _MESSAGES if name in texts), ""):
            yield from self.in_text(main, depth)
        for name in _MORE:
            yield from self.more(containers.get(name), depth + 1)

    def more(self, value: object, depth: int) -> Iterator[str]:
        """Details: errors, or a map of them by field, as in `{"errors": {"name": ["is too long"]}}`."""
        found = False
        for words in self.messages(value, depth):
            found = True
            yield words
        if not found and isinstance(value, Mapping):
            yield from self.pairs(value, depth)

    def pairs(self, value: Mapping[str, Any], depth: int) -> Iterator[str]:
        """Messages under unknown keys, which are taken for fields: `{"name": ["is too long"]}`."""
        for name, item in islice(value.items(), _MOST_WORDS):
            yield from (f"{name}: {words}" for words in self.messages(item, depth + 1) if words.strip())


def _place(item: object) -> str:
    """The field that an error concerns: body.metadata.0 for `{"loc": ["body", "metadata", 0], "msg": …}`."""
    if not isinstance(item, Mapping):
        return ""
    for name in _PLACES:
        match item.get(name):
            case str(slot) if slot:
                return slot
            case [*parts] if parts and all(isinstance(part, str | int) for part in parts):
                return ".".join(str(part) for part in parts[:_MOST_WORDS])
            case {"pointer": str(slot)} | {"parameter": str(slot)}:
                return slot
    return ""


# --- HTML, XML and text


def _from_markup(text: str, content_type: str) -> str:
    if "html" in content_type.lower() or _HTML.match(text):
        return html.unescape(_element(text, "title") or _element(text, "h1") or _without_tags(text))
    if text.startswith("<"):
        text = text.replace("<![CDATA[", "").replace("]]>", "")
        words = [match[2] for match in islice(_XML_WORDS.finditer(text), _MOST_WORDS)]
        return html.unescape("; ".join(dict.fromkeys(words)) or _without_tags(text))
    return text


def _element(text: str, name: str) -> str:
    """The text of the first element with this name that is not empty."""
    for match in islice(re.finditer(rf"<{name}\b", text, re.IGNORECASE), 3):
        begins = text.find(">", match.end()) + 1
        ends = re.compile(rf"</{name}\b", re.IGNORECASE).search(text, begins) if begins else None
        if ends and (words := _TAG.sub(" ", text[begins : ends.start()]).strip()):
            return words
    return ""


def _without_tags(text: str) -> str:
    kept: list[str] = []
    position = 0
    for match in re.finditer(r"<(script|style)\b", text, re.IGNORECASE):
        if match.start() < position:
            continue
        kept.append(text[position : match.start()])
        ends = re.compile(rf"</{match[1]}\b[^<>]*>", re.IGNORECASE).search(text, match.end())
        if ends is None:
            position = len(text)
            break
        position = ends.end()
    return _TAG.sub(" ", " ".join([*kept, text[position:]])).strip()


# --- Text


def _decoded(content: bytes, content_type: str) -> str:
    """Decodes as UTF-8, unless the Content-Type names another charset. Invalid bytes become U+FFFD."""
    try:
        return content.decode(charsets.of(content_type), "replace").removeprefix("\ufeff")
    except ValueError:
        return content.decode("utf-8-sig", "replace")


def _clean(text: str, secret: str) -> str:
    """One line of at most 300 characters, without the secret and without invisible and unstorable characters."""
    text = _UNSEEN.sub("\ufffd", " ".join(_masked(text, secret).split()))
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 1].rstrip()}…"


def _masked(text: str, secret: str) -> str:
    """Masks the secret. A short one is masked only as a whole word, and one of up to three characters not at all."""
    if len(secret) < 4:
        return text
    for form in {secret, secret.replace("/", "\\/"), quote(secret, safe=""), html.escape(secret)}:
        if len(form) >= 8:
            text = text.replace(form, "[our key]")
        else:
            text = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", "[our key]", text)
    return text
