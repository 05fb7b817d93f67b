"""Requests that no page or client makes: every URL, parameter, field and body, with values that nobody expects."""

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from django.urls import URLPattern, URLResolver, get_resolver

from runsadmin.api.schema_views import document

TEXTS = (
    "", " ", "0", "-1", "1.5", "9" * 20, "9" * 5000, "1e400", "NaN", "true", "null", "foo", "1,2", "١", "\0", "\ud800",
    "é💥\u202e", "a" * 5000, "../..", "%", "'\"<b>", "{}", "[1]", "2026-02-30", "0001-01-01T00:00+14:00", "status:(",
    "created:>-7d", "-created_at", "Nosuch/Zone",
)  # fmt: skip
JSON_VALUES: tuple[Any, ...] = (
    *TEXTS,
    None,
    True,
    0,
    -1,
    10**400,
    1.5,
    [],
    {},
    [None],
    [[1]],
    {"a": {"b": [1]}},
    {"": None},
)
BODIES = (b"", b"{", b"null", b"[]", b'"x"', b"1e400", b"\xff\xfe", b"[" * 5000, b'{"a": 1, "a": 2}', b'{"\\ud800": 1}')
CONTENT_TYPES = ("application/json", "application/x-www-form-urlencoded", "multipart/form-data", "nonsense", "")
# Parameters that Django's admin and our lists read without a form or link that contains them.
PARAMETERS = (
    "q", "p", "o", "e", "all", "_popup", "_to_field", "_changelist_filters", "next", "thread", "thread__exact",
    "id__in", "pk", "status", "status__isnull", "created_at__gte", "tracked", "at", "older", "newer", "view", "columns",
    "tz", "selection", "cursor", "page_size", "connection", "nosuch", "a\0b", "",
)  # fmt: skip
METHODS = ("HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "POST", "BREW")


@dataclass(frozen=True)
class OddRequest:
    method: str
    url: str
    body: bytes = b""
    content_type: str = "application/x-www-form-urlencoded"

    def __str__(self) -> str:
        return f"{self.method} {self.url[:200]} {self.body[:200]!r} {self.content_type}"


@dataclass
class Page:
    """The names of the parameters in links and forms, and the fields of each form that is sent by POST."""

    parameters: set[str] = field(default_factory=set)
    forms: list[dict[str, str]] = field(default_factory=list)


def admin_patterns() -> list[str]:
    """The paths of all pages outside the REST API, with arguments as `<converter:name>`."""
    return sorted({path for path in _paths(get_resolver().url_patterns) if not path.startswith("api/")})


def _paths(patterns: Iterable[URLPattern | URLResolver], prefix: str = "") -> Iterator[str]:
    for pattern in patterns:
        path = prefix + re.sub(r"^\^|\$$", "", str(pattern.pattern))
        if isinstance(pattern, URLResolver):
            yield from _paths(pattern.url_patterns, path)
        else:
            yield re.sub(r"\(\?P<(\w+)>.*?\)$", r"<str:\1>", path)


def filled(pattern: str, value: str) -> str:
    """The URL with this value for every argument."""
    return "/" + re.sub(r"<[^>]+>", quote(value.encode(errors="surrogatepass"), safe=""), pattern)


def with_query(url: str, pairs: Iterable[tuple[str, str]]) -> str:
    return f"{url}?{urlencode(list(pairs), errors='surrogatepass')}"


def for_url(url: str, page: Page) -> Iterator[OddRequest]:
    """Odd requests for a URL, whose page was read before."""
    for method in METHODS:
        yield OddRequest(method, url)
    for name in sorted({*PARAMETERS, *page.parameters}):
        for text in TEXTS:
            yield OddRequest("GET", with_query(url, [(name, text)]))
        yield OddRequest("GET", with_query(url, [(name, "1"), (name, "2")]))
    for form in [*page.forms, {}]:
        for name, text in itertools.product(form, TEXTS):
            yield OddRequest("POST", url, urlencode(form | {name: text}, errors="surrogatepass").encode())
        for name in form:
            yield OddRequest("POST", url, urlencode([*form.items(), (name, "2")], errors="surrogatepass").encode())
            yield OddRequest("POST", url, urlencode({key: form[key] for key in form if key != name}).encode())
    for body, content_type in itertools.product(BODIES, CONTENT_TYPES):
        yield OddRequest("POST", url, body, content_type)


def for_operations() -> Iterator[OddRequest]:
    """Odd requests for every operation of the REST API."""
    for path, operations in document()["paths"].items():
        urls = [re.sub(r"{\w+}", quote(text.encode(errors="surrogatepass"), safe=""), path) for text in (*TEXTS, "1")]
        url = urls[-1]
        for method in METHODS:
            yield OddRequest(method, url)
        for method, operation in operations.items():
            for other in urls:
                yield OddRequest(method.upper(), other, b"{}", "application/json")
            names = {parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "query"}
            for name, text in itertools.product(sorted(names | {"nosuch"}), TEXTS):
                yield OddRequest(method.upper(), with_query(url, [(name, text)]), b"{}", "application/json")
            if "requestBody" in operation:
                for body, content_type in itertools.product(BODIES, CONTENT_TYPES):
                    yield OddRequest(method.upper(), url, body, content_type)
                for name, value in itertools.product(sorted(_properties(operation)), JSON_VALUES):
                    yield OddRequest(method.upper(), url, json.dumps({name: value}).encode(), "application/json")


def _properties(part: Any) -> set[str]:
    """The names of all fields in the schema of a body, those of referenced schemas included."""
    if isinstance(part, list):
        return set().union(*map(_properties, part))
    if not isinstance(part, dict):
        return set()
    if "$ref" in part:
        return _properties(document()["components"]["schemas"][part["$ref"].rsplit("/", 1)[1]])
    names = set(part.get("properties", ()))
    return names.union(*(_properties(value) for key, value in part.items() if key not in ("parameters", "responses")))


class _Reader(HTMLParser):
    """Reads the names and values of fields; each form is sent with the values that the page has."""

    def __init__(self) -> None:
        super().__init__()
        self.page, self.form, self.select = Page(), {}, ""

    form: dict[str, str]

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        if tag == "a":
            self.page.parameters |= {name for name, _ in parse_qsl(urlsplit(found.get("href", "")).query)}
        elif tag == "form":
            self.form = {}
            if found.get("method", "get").lower() == "post":
                self.page.forms.append(self.form)
        elif tag in ("input", "textarea", "button", "select") and "name" in found:
            self.page.parameters.add(found["name"])
            self.form[found["name"]] = found.get("value", "")
            self.select = found["name"] if tag == "select" else ""
        elif tag == "option" and self.select and "selected" in found:
            self.form[self.select] = found.get("value", "")


def read_page(html: str) -> Page:
    reader = _Reader()
    reader.feed(html)
    reader.page.parameters.discard("csrfmiddlewaretoken")
    return reader.page
