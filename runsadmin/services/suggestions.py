"""What may be typed next in a search: fields, metadata keys, and values that runs have, with the number of runs.

Values and numbers come from all runs, not only from those that the rest of the search finds. Texts that contain what
was typed, ignoring case, are suggested only if few texts start with it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from runsadmin.models import RunStatus
from runsadmin.search import Equal, Field, Term
from runsadmin.search.completing import Typed
from runsadmin.search.fields import KINDS, METADATA, Kind
from runsadmin.services.distinct_texts import Counted
from runsadmin.services.field_texts import distinct_texts, first_texts
from runsadmin.services.metadata_keys import Texts, pairs_with_prefix
from runsadmin.services.search_time_limit import limited

MAX_SUGGESTIONS = 12
# The maximum number of texts that are compared ignoring case.
MAX_COMPARED = 300
_MAX_KEYS = 100
# The maximum number of suggestions of each kind for a word.
_MAX_FIELDS, _MAX_OF_FIELD, _MAX_PAIRS, _MAX_IDS = 4, 3, 5, 2
_SECONDS = 1.0

_DESCRIPTIONS = {
    "status": "status",
    "model": "model",
    "metadata.": "a metadata key",
    "created": "creation time",
    "error": "code of the last error",
    "assistant": "assistant id",
    "thread": "thread id",
    "id": "run id",
    "tokens": "total tokens",
    "duration": "from start to end",
    "missing": "missing upstream since",
}
# Fields in the order of their usefulness. The others follow in alphabetical order.
_FIELDS = tuple(dict.fromkeys((*_DESCRIPTIONS, *KINDS)))
_EXAMPLES = {
    Kind.TIME: {
        ">-1h": "the last hour",
        ">-24h": "the last 24 hours",
        ">-7d": "the last 7 days",
        ">-30d": "the last 30 days",
    },
    Kind.NUMBER: {">1000": "more than 1,000", ">10000": "more than 10,000", "[1000 TO 5000]": "a range"},
    Kind.DURATION: {">10s": "longer than 10 seconds", ">60s": "longer than a minute", "<1s": "shorter than a second"},
}


@dataclass(frozen=True)
class Suggestion:
    """A text that can replace what is being typed. If it `is_begin` of a term, a value must follow.

    `count` is the number of runs, if known.
    """

    text: str
    note: str = ""
    count: Counted | None = None
    is_begin: bool = False


def suggest(typed: Typed) -> list[Suggestion]:
    """The suggestions for what is being typed. Raises InvalidSearch if finding them takes too long."""
    with limited(_SECONDS):
        if typed.field is not None:
            found = _values(typed.field, typed.text)
        elif typed.is_key:
            found = _keys(typed.text, MAX_SUGGESTIONS)
        else:
            found = _of_word(typed.text)
        return list(islice(found, MAX_SUGGESTIONS))


def _values(field: Field, text: str) -> Iterator[Suggestion]:
    """Values without the name of their field, since it has been typed."""
    if field.kind is not Kind.TEXT:
        yield from (Suggestion(value, note) for value, note in _EXAMPLES[field.kind].items() if value.startswith(text))
    else:
        for found in _counted(field, text, MAX_SUGGESTIONS - 1):
            yield Suggestion(_value_of(Term(field, Equal(found.text))), count=_shown(field, found))
    if not text:
        yield Suggestion("*", "any value")


def _keys(text: str, limit: int) -> Iterator[Suggestion]:
    for found in _counted(None, text, limit):
        yield Suggestion(f"{Field(METADATA, found.text)}:", count=found, is_begin=True)


def _of_word(text: str) -> Iterator[Suggestion]:
    """Names of fields, and terms that the user may mean by a word."""
    names = [name for name in _FIELDS if name.startswith(text.lower())]
    for name in names if not text else names[:_MAX_FIELDS]:
        yield Suggestion(name if name.endswith(".") else f"{name}:", _DESCRIPTIONS.get(name, ""), is_begin=True)
    if not text:
        return
    for name in ("status", "model", "error"):
        yield from _terms(Field(name), text, _MAX_OF_FIELD)
    yield from _keys(text, _MAX_OF_FIELD)
    yield from _pairs(text)
    for name in ("assistant", "thread", "id"):
        yield from _terms(Field(name), text, _MAX_IDS)


def _terms(field: Field, text: str, limit: int) -> Iterator[Suggestion]:
    for found in _counted(field, text, limit):
        yield Suggestion(str(Term(field, Equal(found.text))), count=_shown(field, found))


def _pairs(text: str) -> Iterator[Suggestion]:
    keys = Texts().first(_MAX_KEYS + 1)
    if len(keys) > _MAX_KEYS:
        return
    for key, value in pairs_with_prefix(text, keys, _MAX_PAIRS):
        field = Field(METADATA, key)
        yield from (
            Suggestion(str(Term(field, Equal(value))), count=found) for found in distinct_texts(field).counted([value])
        )


def _counted(field: Field | None, text: str, limit: int) -> list[Counted]:
    """The texts of a field that start with a text or, if these are few, contain it. Without a field, metadata keys."""
    texts = distinct_texts(field) if field else Texts().distinct
    found = _first(field, text, limit)
    if field and field.name == "status":
        found += [status for status in RunStatus if status.startswith(text) and status not in found]
    has_few_texts = field is None or field.name not in ("id", "thread")
    if text and len(found) < limit and has_few_texts:
        found += _containing(text, _first(field, "", MAX_COMPARED), found)
    return texts.counted(found[:limit])


def _first(field: Field | None, prefix: str, limit: int) -> list[str]:
    return first_texts(field, prefix, limit) if field else Texts(prefix).first(limit)


def _containing(text: str, texts: Iterable[str], found: list[str]) -> list[str]:
    """The texts that contain a text, ignoring case. Those that start with it come first."""
    wanted = text.lower()
    others = [each for each in texts if wanted in each.lower() and each not in found]
    return sorted(others, key=lambda each: not each.lower().startswith(wanted))


def _shown(field: Field, found: Counted) -> Counted | None:
    """None for ids: a run's id belongs to one run, and for a thread's id, threads were counted instead of runs."""
    return None if field.name in ("id", "thread") else found


def _value_of(term: Term) -> str:
    """The value of a term as it is written."""
    return str(term).removeprefix(f"{term.field}:")
