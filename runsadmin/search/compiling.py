"""Compiles the tree of a search into a condition on runs."""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from typing import Any

from django.db.models import Exists as ExistsQuery
from django.db.models import Func, OuterRef, Q
from django.utils import timezone

from runsadmin.models import MetadataPair, Thread
from runsadmin.search import values
from runsadmin.search.fields import METADATA, Kind
from runsadmin.search.nodes import (
    And,
    Between,
    Compare,
    Equal,
    Exists,
    Field,
    Node,
    Not,
    Or,
    Prefix,
    Term,
    Test,
    Word,
)

_OF_THREAD = "thread__upstream_id"
_COLUMNS = {
    "assistant": "assistant_id",
    "cancelled": "cancelled_at",
    "completed": "completed_at",
    "completion_tokens": "completion_tokens",
    "connection": "connection",
    "created": "created_at",
    "duration": "duration",
    "error": "error_code",
    "expires": "expires_at",
    "failed": "failed_at",
    "id": "upstream_id",
    "missing": "missing_since",
    "model": "model",
    "prompt_tokens": "prompt_tokens",
    "started": "started_at",
    "status": "status",
    "thread": _OF_THREAD,
    "tokens": "total_tokens",
}
_LOOKUPS = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_VALUE = "looked_up_value"
WORD_FIELDS = ("id", "thread", "assistant", "model")
WORD_COLUMNS = tuple(_COLUMNS[name] for name in WORD_FIELDS)


def condition(
    node: Node, tz: dt.tzinfo = dt.UTC, now: dt.datetime | None = None, *, path: str = "", run: str = "pk"
) -> Q:
    """The condition that a run must meet. Times without an offset are in `tz`.

    `path` precedes the names of the run's columns, and `run` is the name of its primary key.
    """
    return _Compiler(tz, timezone.now() if now is None else now, path, run).condition(node)


def columns(node: Node) -> frozenset[str]:
    """The columns of the run that the condition of a node tests."""
    match node:
        case And(nodes) | Or(nodes):
            return frozenset().union(*map(columns, nodes))
        case Not(excluded):
            return columns(excluded)
        case Word():
            return frozenset(map(_of_run, WORD_COLUMNS))
        case Term(field):
            if field.name == METADATA:
                return frozenset()
            return frozenset(
                {_of_run(_COLUMNS[field.name]), *(["created_at_is_known"] if field.name == "created" else [])}
            )


def _of_run(column: str) -> str:
    return "thread" if column == _OF_THREAD else column


def column_of(field: Field) -> str:
    """The column of a field of the run. Empty for metadata."""
    return _COLUMNS.get(field.name, "")


def bounds(nodes: Iterable[Node], tz: dt.tzinfo, now: dt.datetime) -> Q:
    """The limits of the creation time of runs that match all of these nodes."""
    compiler = _Compiler(tz, now)
    of_time = [node for node in nodes if isinstance(node, Term) and node.field.name == "created"]
    return reduce(and_, [compiler.on_column("created_at", node) for node in of_time], Q())


def pair_condition(term: Term, value: str = "value") -> Q:
    """The condition that a pair of the run must meet, for a metadata term."""
    return Q(key=term.field.key) & text_condition(value, term.test)


class PerRowExists(ExistsQuery):
    """An EXISTS that PostgreSQL evaluates for each row. It would read all rows first for a join or a hash table."""

    def as_postgresql(self, compiler: Any, connection: Any) -> Any:
        return super().as_sql(compiler, connection, template="EXISTS(%(subquery)s OFFSET 0)")


class PerRowValue(Func):
    """The value of a pair that is looked up by its run. PostgreSQL would prefer to read all pairs with this value."""

    template = "%(expressions)s"
    arity = 1

    def as_postgresql(self, compiler: Any, connection: Any, **options: Any) -> Any:
        return self.as_sql(compiler, connection, template="(%(expressions)s || '')")


@dataclass(frozen=True)
class _Compiler:
    tz: dt.tzinfo
    now: dt.datetime
    path: str = ""
    run: str = "pk"

    def condition(self, node: Node) -> Q:
        match node:
            case And(nodes):
                return reduce(and_, map(self.condition, nodes))
            case Or(nodes):
                return self._any_of(nodes)
            case Not(excluded):
                return ~self.condition(excluded)
            case Word(text):
                own = [starts_with(f"{self.path}{column}", text) for column in WORD_COLUMNS if column != _OF_THREAD]
                return (
                    reduce(or_, own)
                    | self._thread(starts_with("upstream_id", text))
                    | self._pair(starts_with(_VALUE, text))
                )
            case Term(field, test):
                return self._term(field, test)

    def _any_of(self, nodes: Iterable[Node]) -> Q:
        """Tests of the same metadata key become one subquery: each costs a lookup per run."""
        conditions: list[Q] = []
        of_key: dict[str | None, list[Test]] = {}
        for node in nodes:
            if isinstance(node, Term) and node.field.name == METADATA:
                of_key.setdefault(node.field.key, []).append(node.test)
            else:
                conditions.append(self.condition(node))
        for key, tests in of_key.items():
            passes = Q() if Exists() in tests else reduce(or_, (text_condition(_VALUE, test) for test in tests))
            conditions.append(self._pair(Q(key=key) & passes))
        return reduce(or_, conditions)

    def _term(self, field: Field, test: Test) -> Q:
        if field.name == METADATA:
            return self._pair(pair_condition(Term(field, test), _VALUE))
        if _COLUMNS[field.name] == _OF_THREAD:
            return self._thread(self.on_column("upstream_id", Term(field, test)))
        tested = self.on_column(f"{self.path}{_COLUMNS[field.name]}", Term(field, test))
        return Q(**{f"{self.path}created_at_is_known": True}) & tested if field.name == "created" else tested

    def on_column(self, column: str, term: Term) -> Q:
        """The condition on the column of the term."""
        if term.field.kind is Kind.TEXT:
            return text_condition(column, term.test) & ~Q(**{column: ""})
        # Without a value the condition is false and not unknown, so that its negation is true.
        return Q(**{f"{column}__isnull": False}) & self._on_value(term.field.kind, column, term.test)

    def _thread(self, tested: Q) -> Q:
        """Uses a subquery: where merge joins are forced, PostgreSQL would read all threads for a join."""
        return Q(PerRowExists(Thread.objects.filter(tested, pk=OuterRef(f"{self.path}thread"))))

    def _pair(self, tested: Q) -> Q:
        pairs = MetadataPair.objects.alias(**{_VALUE: PerRowValue("value")})
        return Q(PerRowExists(pairs.filter(tested, run=OuterRef(self.run))))

    def _on_value(self, kind: Kind, column: str, test: Test) -> Q:
        match test:
            case Exists():
                return Q()
            case Equal(value):
                return self._between(kind, column, value, value)
            case Between(low, high):
                return self._between(kind, column, low, high)
            case Compare(sign, value):
                return self._compare(kind, column, sign, value)
        raise AssertionError(test)  # `checks` permits no other test.

    def _between(self, kind: Kind, column: str, low: str | None, high: str | None) -> Q:
        ends = [(">=", low), ("<=", high)]
        return reduce(and_, [self._compare(kind, column, sign, end) for sign, end in ends if end is not None])

    def _compare(self, kind: Kind, column: str, sign: str, text: str) -> Q:
        if kind is not Kind.TIME:
            value: Any = values.number(text) if kind is Kind.NUMBER else values.duration(text)
            return Q(**{f"{column}__{_LOOKUPS[sign]}": value})
        span = values.span(text, self.tz, self.now)
        match sign:
            case ">=":
                return Q(**{f"{column}__gte": span.begin})
            case "<":
                return Q(**{f"{column}__lt": span.begin})
            case ">":
                return Q(**{f"{column}__gte": span.end})
            case _:
                return Q(**{f"{column}__lt": span.end})


def text_condition(column: str, test: Test) -> Q:
    match test:
        case Exists():
            return Q()
        case Equal(value):
            return Q(**{column: value})
        case Prefix(text):
            return starts_with(column, text)
        case Compare(sign, value):
            return Q(**{f"{column}__{_LOOKUPS[sign]}": value})
        case Between(low, high):
            ends = {"gte": low, "lte": high}
            return Q(**{f"{column}__{lookup}": end for lookup, end in ends.items() if end is not None})


def starts_with(column: str, text: str) -> Q:
    """The condition that a column begins with a text, as a range: such columns sort by byte on every database."""
    following = successor(text)
    tested = Q(**{f"{column}__gte": text})
    return tested if following is None else tested & Q(**{f"{column}__lt": following})


def successor(text: str) -> str | None:
    """The first text after all texts that begin with this one. None if there is none."""
    shortened = text.rstrip("\U0010ffff")
    if not shortened:
        return None
    last = ord(shortened[-1]) + 1
    return shortened[:-1] + chr(0xE000 if last == 0xD800 else last)  # Surrogates are not characters.
