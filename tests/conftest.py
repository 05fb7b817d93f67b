"""Users, and the sandbox as the upstream.

alice and bob may edit, carol may only view; none of them is a superuser. `sandbox` is a server process that is empty at
the start of each test, and the upstream of the connection `default`.
"""

import io
import itertools
import json
import logging
import logging.config
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from pytest_django import DjangoDbBlocker, Settings

from project import logs
from runsadmin.models import Run, Thread
from runsadmin.services import gateway, runs
from runsadmin.services.clock import ClockBounds
from runsadmin.services.database_use import lock_file_of
from runsadmin.services.permissions import Action
from tests import database
from tests.sandbox_client import Sandbox, make_run

VIEWER = frozenset(
    {Action.VIEW_RUNS, Action.VIEW_EDITS, Action.VIEW_BULK_EDITS, Action.VIEW_THREADS, Action.VIEW_SYNCS}
)
EDITOR = frozenset(Action) - {Action.HOLD}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("random cases", "for more cases than a quick run of the whole suite has time for")
    group.addoption("--server-cases", type=int, default=100, help="tests/faults: number of random servers")
    group.addoption("--server-seed", type=int, default=0, help="tests/faults: seed of the first random server")
    group.addoption("--schema-examples", type=int, default=50, help="tests/api: random requests per operation")
    group.addoption("--odd-requests", type=int, default=150, help="tests/security: send every Nth request; 1 sends all")
    group.addoption("--search-cases", type=int, default=1000, help="tests/search: number of generated searches")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "only_on(vendor): the test is about this database, and is deselected with any other."
    )
    # SIGTERM ends the tests as Ctrl-C does, so that the fixtures stop their processes. Workers of xdist end with the
    # process that started them.
    if not hasattr(config, "workerinput"):
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    vendors = [(item, item.get_closest_marker("only_on")) for item in items]
    others = [item for item, mark in vendors if mark and mark.args[0] != connection.vendor]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]
    # The threads that serve the browser keep the database open, and a restore needs to be its only user.
    items.sort(key=lambda item: item.path.name not in ("test_backups.py", "test_restoring.py"))


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with django_db_blocker.unblock():
        kept = database.kept_rows()
    with database.fast_teardown(kept):
        yield
    if connection.vendor == "sqlite":
        file = Path(connection.settings_dict["NAME"])
        for path in (lock_file_of(file), *file.parent.glob(f"{file.name}.replaced-*")):
            path.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def sandbox_process() -> Iterator[Sandbox]:
    sandbox = Sandbox.start()
    yield sandbox
    sandbox.stop()


@pytest.fixture
def sandbox(sandbox_process: Sandbox, connect: "Connect") -> Sandbox:
    sandbox_process.reset()
    connect(URL=sandbox_process.url, API_KEY=sandbox_process.key, LISTS_ARE_FRESH=True)
    return sandbox_process


type MakeRun = Callable[..., Run]


class Connect(Protocol):
    def __call__(self, alias: str = "default", /, **options: Any) -> None: ...


@pytest.fixture
def connect(settings: Settings) -> Connect:
    """Changes options of a connection for this test. A new alias starts as a copy of `default`."""

    def connect(alias: str = "default", /, **options: Any) -> None:
        known = settings.RUNSADMIN_CONNECTIONS
        settings.RUNSADMIN_CONNECTIONS = known | {alias: known.get(alias, known["default"]) | options}

    return connect


@pytest.fixture
def mirror_run(sandbox: Sandbox, db: None) -> MakeRun:
    """Creates a run upstream with these API fields, and mirrors it over HTTP."""

    def mirror_run(**fields: Any) -> Run:
        upstream = make_run(**fields)
        sandbox.put_runs([upstream])
        thread, _ = Thread.objects.get_or_create(connection="default", upstream_id=upstream["thread_id"])
        timed = gateway.fetch_run(thread, upstream["id"], ClockBounds())
        runs.compare([(thread, timed)], of_list=True).write()
        return Run.objects.get(connection="default", upstream_id=upstream["id"])

    return mirror_run


type CaptureLog = Callable[[str], io.StringIO]


@pytest.fixture
def capture_log() -> Iterator[CaptureLog]:
    """Captures everything that is logged, in one of the formats of the settings: "line" or "json"."""
    root, level = logging.getLogger(), logging.getLogger().level
    handlers: list[logging.Handler] = []

    def capture_log(name: str) -> io.StringIO:
        stream = io.StringIO()
        configurator = logging.config.DictConfigurator({"version": 1, "formatters": {"f": logs.formatter(name)}})
        handler = logging.StreamHandler(stream)
        handler.setFormatter(configurator.configure_formatter(configurator.config["formatters"]["f"]))
        handler.addFilter(logs.without_rejection_tracebacks)
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        handlers.append(handler)
        return stream

    yield capture_log
    root.setLevel(level)
    for handler in handlers:
        root.removeHandler(handler)


def json_lines(log: str) -> list[dict[str, Any]]:
    """The entries of a log with LOG_FORMAT=json, without the lines that other programs write."""
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


@pytest.fixture
def copy_to_eu(connect: Connect) -> Callable[[Run], None]:
    """Copies a run in the mirror to a second connection, `eu`."""

    def copy_to_eu(run: Run) -> None:
        connect("eu")
        thread = Thread.objects.create(connection="eu", upstream_id=run.thread.upstream_id)
        copy = Run.objects.get(pk=run.pk)
        copy.pk, copy.connection, copy.thread = None, "eu", thread
        copy.save()

    return copy_to_eu


@pytest.fixture
def make_user(db: None) -> Callable[..., User]:
    """Creates a staff user with these permissions. The password is the username."""
    numbers = itertools.count(1)

    def make_user(*actions: Action, username: str = "", **fields: Any) -> User:
        username = username or f"user{next(numbers)}"
        user = User.objects.create_user(username, password=username, is_staff=True, **fields)
        codenames = [action.value.removeprefix("runsadmin.") for action in actions]
        granted = Permission.objects.filter(content_type__app_label="runsadmin", codename__in=codenames)
        assert len(granted) == len(codenames)
        user.user_permissions.set(granted)
        return user

    return make_user


@pytest.fixture
def alice(make_user: Callable[..., User]) -> User:
    return make_user(*EDITOR, username="alice")


@pytest.fixture
def bob(make_user: Callable[..., User]) -> User:
    return make_user(*EDITOR, username="bob")


@pytest.fixture
def carol(make_user: Callable[..., User]) -> User:
    return make_user(*VIEWER, username="carol")
