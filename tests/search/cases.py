"""Generated searches, each with a plain predicate that says which runs it finds, and runs to find."""

import datetime as dt
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from runsadmin.models import MetadataPair, Run, Thread

BERLIN = ZoneInfo("Europe/Berlin")
NOW = dt.datetime(2026, 3, 29, 12, tzinfo=dt.UTC)  # The day on which Berlin's clocks are set forward.

KEYS = ("team", "cost center", 'quo"ted', "a.b", "a:b", "(x)", "back\\slash", "😀", "*", "OR", "metadata.x", "")
VALUES = (
    "a", "ab", "abc", "AB", "10", "9", "é", "😀", "😀b", "\U0010ffff", "\U0010ffffb", "x y", 'q"t', "ab*", "-7d", "OR",
    "\ud7ff", "\ue000", "(a)", "a:b", "[1", "y" * 512,
)  # fmt: skip
TEXTS = ("assistant", "connection", "error", "id", "model", "status", "thread")
TIMES = ("cancelled", "completed", "created", "expires", "failed", "missing", "started")
NUMBERS = ("completion_tokens", "prompt_tokens", "tokens")
COLUMNS = {
    "assistant": "assistant_id", "error": "error_code", "id": "upstream_id", "tokens": "total_tokens",
    "missing": "missing_since", **{name: f"{name}_at" for name in TIMES if name != "missing"},
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A run as the predicates see it: a value that is missing is not in `values`."""

    values: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def words(self) -> list[str]:
        texts = [self.values.get(name, "") for name in ("id", "thread", "assistant", "model")]
        return [*texts, *self.metadata.values()]


@dataclass(frozen=True)
class Case:
    text: str
    matches: Callable[[Row], bool]

    def __repr__(self) -> str:
        return self.text


def make_rows(count: int = 60) -> list[Row]:
    chance = random.Random(12)

    def perhaps(make: Callable[[], Any]) -> Any:
        return make() if chance.random() < 0.7 else None

    rows = []
    for number in range(count):
        values = {name: perhaps(lambda: chance.choice(VALUES[:-1])) for name in ("assistant", "error", "model")}
        values |= {"id": f"{VALUES[number % 10]}{number}", "status": chance.choice(["failed", "expired", "AB"])}
        values |= {"connection": chance.choice(["default", "eu"]), "thread": f"thread_{chance.choice(VALUES[:10])}"}
        values |= {name: perhaps(lambda: _moment(chance)) for name in TIMES}
        values |= {name: perhaps(lambda: chance.choice([0, 9, 10, 5000, 2**40])) for name in NUMBERS}
        values["duration"] = perhaps(lambda: dt.timedelta(seconds=chance.choice([0, 1, 60, 90, 86400])))
        metadata = {key: chance.choice([*VALUES, ""]) for key in KEYS if chance.random() < 0.4}
        rows.append(Row({name: value for name, value in values.items() if value is not None}, metadata))
    return rows


def _moment(chance: random.Random) -> dt.datetime:
    return NOW + chance.choice([-1, 1]) * dt.timedelta(
        seconds=chance.choice([0, 1, 3600, 86400, 7 * 86400, 40 * 86400])
    )


def store(rows: list[Row]) -> dict[int, Row]:
    """Stores the runs. Returns the rows by primary key."""
    stored = {}
    for row in rows:
        values = {COLUMNS.get(name, name): value for name, value in row.values.items() if name != "thread"}
        created_at = values.setdefault("created_at", NOW)
        thread, _ = Thread.objects.get_or_create(connection=row.values["connection"], upstream_id=row.values["thread"])
        run = Run.objects.create(
            **values, thread=thread, created_at_is_known="created" in row.values, digest="",
            raw=json.dumps({"id": row.values["id"]}),
            requested_at=NOW, received_at=NOW,
        )  # fmt: skip
        for key, value in row.metadata.items():
            MetadataPair.objects.create(run=run, key=key, value=value, created_at=created_at)
        stored[run.pk] = row
    return stored


def written(text: str, *, bare: str = r"[a-zA-Z0-9_é]+") -> str:
    if re.fullmatch(bare, text) and text != "OR":
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


# --- Tests of one value: their text, and whether a value passes


@dataclass(frozen=True)
class Test:
    text: str
    passes: Callable[[Any], bool]
    __test__ = False


def comparisons(texts: st.SearchStrategy[tuple[str, Any, Any]]) -> st.SearchStrategy[Test]:
    """Comparisons with texts. Each text comes with the first value that equals it, and the first value beyond it."""

    def compared(drawn: tuple[str, tuple[str, Any, Any]]) -> Test:
        sign, (text, begin, end) = drawn
        passes: dict[str, Callable[[Any], bool]] = {
            ">": lambda value: value >= end,
            ">=": lambda value: value >= begin,
            "<": lambda value: value < begin,
            "<=": lambda value: value < end,
        }
        return Test(sign + text, passes[sign])

    def between(drawn: tuple[tuple[str, Any, Any], tuple[str, Any, Any]]) -> Test:
        (low, begin, _), (high, _, end) = sorted(drawn, key=lambda drawn: drawn[1])
        return Test(f"[{low} TO {high}]", lambda value: begin <= value < end)

    def open_range(drawn: tuple[str, Any, Any]) -> Test:
        return Test(f"[{drawn[0]} TO *]", lambda value: value >= drawn[1])

    return (
        st.tuples(st.sampled_from([">", ">=", "<", "<="]), texts).map(compared)
        | st.tuples(texts, texts).map(between)
        | texts.map(open_range)
    )


def equal_to(drawn: tuple[str, Any, Any]) -> Test:
    return Test(drawn[0], lambda value: drawn[1] <= value < drawn[2])


_times = st.builds(lambda offset: NOW.astimezone(BERLIN) + offset, st.timedeltas(dt.timedelta(-60), dt.timedelta(60)))


def _year(time: dt.datetime) -> tuple[str, Any, Any]:
    return f"{time:%Y}", dt.datetime(time.year, 1, 1, tzinfo=BERLIN), dt.datetime(time.year + 1, 1, 1, tzinfo=BERLIN)


def _month(time: dt.datetime) -> tuple[str, Any, Any]:
    after = dt.datetime(time.year + time.month // 12, time.month % 12 + 1, 1, tzinfo=BERLIN)
    return f"{time:%Y-%m}", dt.datetime(time.year, time.month, 1, tzinfo=BERLIN), after


def _day(time: dt.datetime) -> tuple[str, Any, Any]:
    begin, after = (dt.datetime.combine(day, dt.time(), BERLIN) for day in (time.date(), time.date() + dt.timedelta(1)))
    return f"{time:%Y-%m-%d}", begin, after


def _second(time: dt.datetime) -> tuple[str, Any, Any]:
    begin = time.astimezone(dt.UTC).replace(microsecond=0)
    return f"{begin:%Y-%m-%dT%H:%M:%SZ}", begin, begin + dt.timedelta(seconds=1)


spans = st.one_of(*(_times.map(form) for form in (_year, _month, _day, _second)))


def _relative(drawn: tuple[str, int]) -> tuple[str, Any, Any]:
    moment = NOW + dt.timedelta(seconds=drawn[1])
    return drawn[0], moment, moment


moments = st.sampled_from([("now", 0), ("-7d", -7 * 86400), ("-1s", -1), ("+1h", 3600), ("-4w", -28 * 86400)]).map(
    _relative
)
numbers = st.sampled_from([0, 8, 9, 10, 5000, 10**17]).map(lambda number: (str(number), number, number + 1))
durations = st.sampled_from(
    [("0s", 0), ("1s", 1), ("1000ms", 1), ("1m", 60), ("1.5m", 90), ("24h", 86400), ("1d", 86400)]
)
lengths = durations.map(
    lambda drawn: (drawn[0], dt.timedelta(seconds=drawn[1]), dt.timedelta(seconds=drawn[1], microseconds=1))
)
texts = st.sampled_from(VALUES) | st.text(st.sampled_from('ab1*"\\ :é😀'), min_size=1, max_size=3)
# The first value after a text is the text and U+0000, because U+0000 is the first character.
compared_texts = texts.map(lambda text: (written(text, bare="[a-zA-Z_é]+"), text, text + "\0"))

exists = st.just(Test("*", lambda value: True))
text_tests = st.one_of(
    exists,
    texts.map(lambda text: Test(written(text), lambda value: value == text)),
    texts.map(lambda text: Test(written(text) + "*", lambda value: value.startswith(text))),
    comparisons(compared_texts),
)
time_tests = exists | spans.map(equal_to) | comparisons(spans) | comparisons(moments)
number_tests = exists | numbers.map(equal_to) | comparisons(numbers)
duration_tests = exists | lengths.map(equal_to) | comparisons(lengths)


def groups(tests: st.SearchStrategy[Test]) -> st.SearchStrategy[Test]:
    """A test, or several of them in parentheses."""

    def joined(drawn: tuple[str, list[Test]]) -> Test:
        operator, parts = drawn
        any_or_all = any if operator == "OR" else all
        text = f" {operator} ".join(part.text for part in parts)
        return Test(f"({text})", lambda value: any_or_all(part.passes(value) for part in parts))

    return tests | st.tuples(st.sampled_from(["OR", "AND"]), st.lists(tests, min_size=1, max_size=3)).map(joined)


# --- Terms


def _term(drawn: tuple[str, Test]) -> Case:
    name, test = drawn
    return Case(f"{name}:{test.text}", lambda row: name in row.values and test.passes(row.values[name]))


def _on_metadata(drawn: tuple[str, Test]) -> Case:
    key, test = drawn
    name = f"metadata.{written(key)}"
    return Case(f"{name}:{test.text}", lambda row: key in row.metadata and test.passes(row.metadata[key]))


def _word(text: str) -> Case:
    return Case(written(text), lambda row: any(word.startswith(text) for word in row.words))


terms = st.one_of(
    st.tuples(st.sampled_from(TEXTS), groups(text_tests)).map(_term),
    st.tuples(st.sampled_from(TIMES), groups(time_tests)).map(_term),
    st.tuples(st.sampled_from(NUMBERS), groups(number_tests)).map(_term),
    st.tuples(st.just("duration"), groups(duration_tests)).map(_term),
    st.tuples(st.sampled_from(KEYS), groups(text_tests)).map(_on_metadata),
    texts.map(_word),
)


def _combined(inner: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
    def excluded(drawn: tuple[str, Case]) -> Case:
        sign, case = drawn
        return Case(f"{sign}({case.text})", lambda row: not case.matches(row))

    def all_of(drawn: tuple[str, list[Case]]) -> Case:
        text = drawn[0].join(f"({case.text})" if " OR " in case.text else case.text for case in drawn[1])
        return Case(text, lambda row: all(case.matches(row) for case in drawn[1]))

    def any_of(cases: list[Case]) -> Case:
        return Case(" OR ".join(case.text for case in cases), lambda row: any(case.matches(row) for case in cases))

    several = st.lists(inner, min_size=2, max_size=4)
    return (
        st.tuples(st.sampled_from(["-", "NOT ", "NOT NOT -"]), inner).map(excluded)
        | st.tuples(st.sampled_from([" ", "  ", " AND "]), several).map(all_of)
        | several.map(any_of)
    )


# Up to 20 terms.
searches = st.recursive(terms, _combined, max_leaves=20)
