"""The server's own words in the body of an error response. Any body gives text, in linear time, and never an error."""

import html
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any
from urllib.parse import quote

from runsadmin import lenient_json
from runsadmin.upstream import charsets

MAX_LENGTH = 300
# What is longer is no error object: its beginning is shown as text.
_LONGEST_JSON = 262_144
_LONGEST_TEXT = 65_536
_DEEPEST = 8
_MOST_WORDS = 20
_MOST_VALUES = 2000

# Keys that hold a message, the most telling first. All keys are compared in lower case and without _ and -.
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
# What names a fault where nothing describes it.
_CODES = ("code", "errorcode", "type", "statustext")
# Keys that hold the error itself, and those that tell more of it.
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
# Where a server wraps its whole answer.
_WRAPPERS = ("data", "response", "body", "result", "content")
# Where an item of a list of errors says what it is about.
_PLACES = ("loc", "field", "pointer", "path", "param", "source", "property", "location")

_HTML = re.compile(r"\s*<(!doctype|html|head|title|body|h1|center|p|div)\b", re.IGNORECASE)
_XML_WORDS = re.compile(
    r"<(?:\w+:)?(message|faultstring|reason|detail|title|description)\b[^<>]*>([^<>]+)<", re.IGNORECASE
)
_TAG = re.compile(r"<[^<>]*>")
_EVENT = re.compile(r"^data: ?([{\[].*)$", re.MULTILINE)
# Control characters, what would turn the text around it, and halves of surrogate pairs.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)


def of(content: bytes, content_type: str = "", *, secret: str = "") -> str:
    """At most 300 characters; "" only when there is nothing but white space. The secret is not shown."""
    is_whole = len(content) <= _LONGEST_JSON
    text = _decoded(content[:_LONGEST_JSON], content_type).strip()
    found = _from_json(text) if is_whole else ""
    text = text[:_LONGEST_TEXT]
    return _clean(found, secret) or _clean(_from_markup(text, content_type), secret) or _clean(text, secret)


def said(value: object) -> str:
    """What a JSON value says; "" when it is an object without words that are known."""
    return _joined(_Reader().said(value, 0))


# --- JSON


def _from_json(text: str) -> str:
    event = _EVENT.search(text)
    try:
        value = lenient_json.loads(event[1] if event else text)
    except ValueError:
        return ""
    if not isinstance(value, Mapping | list | str):
        return ""
    return said(value) or (_joined(_Reader().pairs(value, 0)) if isinstance(value, Mapping) else "")


def _joined(words: Iterator[str]) -> str:
    text = ""
    for each in dict.fromkeys(word for each in islice(words, _MOST_WORDS) if (word := each.strip())):
        text = f"{text}{' ' if text.endswith(('.', '!', '?', ':')) else '; '}{each}" if text else each
    return text


class _Reader:
    """Finds words in a JSON value, and looks at no more than some of it."""

    def __init__(self) -> None:
        self.left = _MOST_VALUES

    def said(self, value: object, depth: int) -> Iterator[str]:
        self.left -= 1
        if depth > _DEEPEST or self.left < 0:
            return
        match value:
            case str():
                yield from self.in_text(value, depth)
            case list():
                for item in value[:_MOST_WORDS]:
                    slot = _place(item)
                    yield from (f"{slot}: {words}" if slot else words for words in self.said(item, depth + 1))
            case Mapping():
                yield from self.in_object(value, depth)

    def in_text(self, text: str, depth: int) -> Iterator[str]:
        """Some gateways put the JSON of the server behind them into a text."""
        found = False
        if text.lstrip().startswith(("{", "[")):
            try:
                inner = lenient_json.loads(text)
            except ValueError:
                inner = None
            for words in self.said(inner, depth + 1):
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
            for words in self.said(containers.get(name), depth + 1):
                found = True
                yield words
        if not found:
            yield from (texts[name] for name in _CODES if name in texts)

    def parts(self, texts: Mapping[str, str], containers: Mapping[str, object], depth: int) -> Iterator[str]:
        for name in _ERRORS:
            yield from self.said(containers.get(name), depth + 1)
        if main := next((texts[name] for name in _MESSAGES if name in texts), ""):
            yield from self.in_text(main, depth)
        for name in _MORE:
            yield from self.more(containers.get(name), depth + 1)

    def more(self, value: object, depth: int) -> Iterator[str]:
        """`{"errors": {"name": ["is too long"]}}` names what each is about; the others are errors or lists of them."""
        found = False
        for words in self.said(value, depth):
            found = True
            yield words
        if not found and isinstance(value, Mapping):
            yield from self.pairs(value, depth)

    def pairs(self, value: Mapping[str, Any], depth: int) -> Iterator[str]:
        """What no known key tells: `{"name": ["is too long"]}`."""
        for name, item in islice(value.items(), _MOST_WORDS):
            yield from (f"{name}: {words}" for words in self.said(item, depth + 1) if words.strip())


def _place(item: object) -> str:
    """`{"loc": ["body", "metadata", 0], "msg": …}` is about body.metadata.0."""
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
    """The text of the first element of this name that has any."""
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
    """UTF-8, unless the Content-Type names another charset. What does not decode becomes U+FFFD."""
    try:
        return content.decode(charsets.of(content_type), "replace").removeprefix("\ufeff")
    except ValueError:
        return content.decode("utf-8-sig", "replace")


def _clean(text: str, secret: str) -> str:
    """One line of at most 300 characters, without the secret and without what cannot be seen or stored."""
    text = _UNSEEN.sub("\ufffd", " ".join(_masked(text, secret).split()))
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 1].rstrip()}…"


def _masked(text: str, secret: str) -> str:
    """A short secret is masked only where it is a word of its own: it may be part of others. Three letters are none."""
    if len(secret) < 4:
        return text
    for form in {secret, secret.replace("/", "\\/"), quote(secret, safe=""), html.escape(secret)}:
        if len(form) >= 8:
            text = text.replace(form, "[our key]")
        else:
            text = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", "[our key]", text)
    return text
