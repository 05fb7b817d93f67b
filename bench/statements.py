"""Times the statements of a search alone: the database's part of a page, without building objects or HTML."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import groupby
from threading import Timer
from typing import Any

from django.db import OperationalError, connection, transaction

from bench import queries, timing
from bench.queries import Shape
from runsadmin import keyset
from runsadmin.api.run_representation import representable
from runsadmin.errors import RunsAdminError
from runsadmin.models import MetadataPair, Run
from runsadmin.services.run_search import RunSearch, Sort
from runsadmin.services.run_search.merging import MERGE_JOINS
from runsadmin.services.search_time_limit import postgresql_settings

PAGE_SIZE = 100
# Settings of PostgreSQL that searches change.
SETTINGS = ("jit", "enable_seqscan", *MERGE_JOINS)


@dataclass(frozen=True)
class Statement:
    sql: str
    params: Any
    settings: Mapping[str, str]


def measure_shapes(runs: str, repeats: str, limit: str) -> list[dict[str, Any]]:
    """Every shape: once to warm up, then `repeats` times, or less often if that takes longer than `limit` seconds."""
    return [_of_shape(shape, int(runs), int(repeats), float(limit)) for shape in queries.SHAPES]


def _of_shape(shape: Shape, runs: int, repeats: int, limit: float) -> dict[str, Any]:
    after = _key(runs // 4) if shape.page == "deep" else None
    result, statements = _once(lambda: _page(shape, after), limit)
    if "error" not in result:
        result |= timing.repeated(lambda: _replay(statements), repeats, seconds=limit)
    return asdict(shape) | result


def _page(shape: Shape, after: keyset.Key | None) -> list[Run]:
    sort = Sort.MOST_TOKENS if shape.page == "tokens" else Sort.NEWEST
    found = RunSearch.parse(shape.text)
    return found.read_page(representable(Run.objects.all()), PAGE_SIZE, after=after, sort=sort).rows


def _key(depth: int) -> keyset.Key | None:
    """The key of the run at this depth in the list of the runs with the common value."""
    key, _, value = queries.COMMON.removeprefix("metadata.").partition(":")
    pairs = MetadataPair.objects.filter(key=key, value=value).order_by("-created_at", "-run")
    return pairs.values_list("created_at", "run")[depth]


def measure_generated(count: str, limit: str) -> list[dict[str, Any]]:
    """Generated searches, each timed once, after one to warm up."""
    results = []
    for text in queries.generated(int(count)):
        shape = Shape("generated", text)
        result, statements = _once(lambda shape=shape: _page(shape, None), float(limit))  # type: ignore[misc]
        if "error" not in result:
            result["database_ms"] = timing.timed(lambda statements=statements: _replay(statements))  # type: ignore[misc]
        results.append({"text": text} | result)
    return results


def _once(page: Callable[[], list[Run]], limit: float) -> tuple[dict[str, Any], list[Statement]]:
    """Reads a page. Returns how many runs it has, how long that took, and its statements.

    Returns an `error` instead if the search was rejected, or failed, for example by taking longer than `limit` seconds.
    """
    statements: list[Statement] = []

    def record(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        statements.append(Statement(sql, params, _settings()))
        return execute(sql, params, many, context)

    began = time.perf_counter()
    try:
        with _stopped_after(limit), connection.execute_wrapper(record):
            rows = page()
        seconds = time.perf_counter() - began
    except RunsAdminError as error:
        return {"error": f"not answered: {error}"}, []
    except OperationalError as error:
        return {"error": f"failed after {time.perf_counter() - began:.0f} s: {error}".strip()}, []
    return {"rows": len(rows), "statements": len(statements), "whole_ms": 1000 * seconds}, statements


def _settings() -> dict[str, str]:
    if connection.vendor != "postgresql":
        return {}
    columns = ", ".join(f"current_setting('{name}')" for name in SETTINGS)
    return dict(zip(SETTINGS, connection.connection.execute(f"SELECT {columns}").fetchone(), strict=True))


def _replay(statements: list[Statement]) -> None:
    """Executes the statements again, each with the settings that it had."""
    with transaction.atomic(), connection.cursor() as cursor:
        for settings, some in groupby(statements, lambda statement: statement.settings):
            with postgresql_settings(settings):
                for statement in some:
                    cursor.execute(statement.sql, statement.params)
                    if cursor.description:
                        cursor.fetchall()


@contextmanager
def _stopped_after(seconds: float) -> Iterator[None]:
    """Has the database stop a statement that takes longer."""
    connection.ensure_connection()
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"SET statement_timeout = {int(1000 * seconds)}")
            try:
                yield
            finally:
                cursor.execute("SET statement_timeout = 0")
        return
    timer = Timer(seconds, connection.connection.interrupt)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
