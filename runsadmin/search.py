"""The search language: text to conditions on runs. Words are ANDed; each is `field:value`.

    status:failed model:gpt-4o created:>=2026-01-01 metadata.team:search metadata."cost center":"R&D"

A syntax error names the position and what was expected; nothing is ignored.
"""

import datetime as dt
import re

from django.db.models import Q
from django.utils.dateparse import parse_date, parse_datetime

from runsadmin.errors import InvalidSearch
from runsadmin.text import is_text

_QUOTED = r'"(?P<{0}q>(?:[^"\\]|\\.)*)"'
_KEY = rf'metadata\.(?:{_QUOTED.format("key")}|(?P<key>[^\s":]+))'
_TERM = re.compile(rf'(?:{_KEY}|(?P<field>[a-z_]+)):(?:{_QUOTED.format("value")}|(?P<value>[^\s"]+))')
_COMPARED = re.compile(r"(>=|<=|>|<)?(.*)", re.DOTALL)
_LOOKUPS = {">=": "gte", "<=": "lte", ">": "gt", "<": "lt"}
_DAY = dt.timedelta(days=1)
# Each metadata pair is a join, and databases limit the number of joins.
MOST_WORDS = 30


def conditions(text: str) -> list[Q]:
    """One condition for each word, to be applied one after the other. Raises InvalidSearch."""
    if not is_text(text):
        raise InvalidSearch("A search cannot contain U+0000 or a lone surrogate. Remove it.")
    found: list[Q] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        term = _TERM.match(text, at)
        if term is None:
            raise InvalidSearch(
                f"At character {at + 1}: {text[at : at + 20]!r} is not understood; expected {_EXPECTED}."
            )
        if len(found) == MOST_WORDS:
            raise InvalidSearch(f"At character {at + 1}: a search has at most {MOST_WORDS} words.")
        found.append(_condition(term, at))
        at = term.end()
        if at < len(text) and not text[at].isspace():
            raise InvalidSearch(f"At character {at + 1}: expected a space between two words.")
    return found


def word(field: str, value: str) -> str:
    """The word that finds this value: `status:failed`, `model:"gpt 4"`."""
    escaped = re.sub(r'(["\\])', r"\\\1", value)
    return f"{field}:{value}" if re.fullmatch(r'[^\s"]+', value) else f'{field}:"{escaped}"'


def _condition(term: re.Match[str], at: int) -> Q:
    value = _unquoted(term, "value")
    if (field := term["field"]) is None:
        return Q(pairs__key=_unquoted(term, "key"), pairs__value=value)
    if field not in _FIELDS:
        raise InvalidSearch(f"At character {at + 1}: there is no field {field!r}; expected {_EXPECTED}.")
    try:
        return _created(value) if field == "created" else Q(**{_FIELDS[field]: value})
    except (ValueError, OverflowError) as error:  # OverflowError: the day after 9999-12-31.
        raise InvalidSearch(f"At character {term.end('field') + 2}: {error}") from None


def _unquoted(term: re.Match[str], name: str) -> str:
    quoted = term[f"{name}q"]
    return term[name] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)


def _created(value: str) -> Q:
    """Finds no run whose time of creation is unknown: its row has the time when it was first seen instead."""
    sign, text = _COMPARED.fullmatch(value).groups()  # type: ignore[union-attr] # It matches any text.
    day = parse_date(text)
    if day is None or "T" in text:
        moment = parse_datetime(text)
        if moment is None or sign is None:
            raise ValueError(f"{value!r} is not a time; expected >=, >, <= or < and a day or an ISO time, in UTC.")
        moment = moment.astimezone(dt.UTC) if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
        return Q(created_at_is_known=True, **{f"created_at__{_LOOKUPS[sign]}": moment})
    begins = dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC)
    if sign is None:
        return Q(created_at_is_known=True, created_at__gte=begins, created_at__lt=begins + _DAY)
    limit = begins + _DAY if sign in (">", "<=") else begins  # Both include the whole day.
    return Q(created_at_is_known=True, **{"created_at__gte" if ">" in sign else "created_at__lt": limit})


_FIELDS = {
    "assistant": "assistant_id",
    "connection": "connection",
    "created": "created_at",
    "error": "error_code",
    "id": "upstream_id",
    "model": "model",
    "status": "status",
    "thread": "thread__upstream_id",
}
_EXPECTED = f"{', '.join(f'{field}:…' for field in _FIELDS)} or metadata.KEY:…"
