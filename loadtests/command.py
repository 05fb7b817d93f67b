"""What the commands of the load tests share: a database, an environment and a report."""

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from tests.postgres import server

if TYPE_CHECKING:
    from loadtests.environment import Environment
    from loadtests.report import Counts


def parser(name: str, doc: str | None, *, database: bool = True) -> argparse.ArgumentParser:
    """A parser whose description is the first line of the command's docstring."""
    parser = argparse.ArgumentParser(prog=name, description=(doc or "").splitlines()[0])
    if database:
        parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    return parser


def new_folder(name: str) -> Path:
    return Path(tempfile.mkdtemp(prefix=f"runsadmin-{name}-"))


@contextmanager
def prepared(database: str, folder: Path) -> Iterator["Environment"]:
    """Yields an environment with a new database, which this process and its children use.

    `database` is "sqlite", "postgres" or a URL.
    """
    match database:
        case "sqlite":
            running: AbstractContextManager[str] = nullcontext(f"sqlite:///{folder}/db.sqlite3")
        case "postgres":
            running = server()
        case _:
            running = nullcontext(database)
    with running as url, _environment(url, folder) as environment:
        yield environment


@contextmanager
def _environment(url: str, folder: Path) -> Iterator["Environment"]:
    os.environ |= {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "tests.settings"}

    import django

    django.setup()

    from django.conf import settings
    from django.contrib.auth.models import User
    from django.core.management import call_command

    from loadtests.environment import Environment, timeouts
    from loadtests.processes import RecordedSandbox

    call_command("migrate", verbosity=0)
    alice = User.objects.create_superuser("alice")
    sandbox = RecordedSandbox.in_folder(folder / "sandbox")
    options = settings.RUNSADMIN_CONNECTIONS["default"]
    options |= timeouts() | {"URL": sandbox.url, "API_KEY": sandbox.key}
    environment = Environment(url, sandbox, folder, alice)
    try:
        yield environment
    finally:
        environment.end()
        sandbox.kill()


def print_report(report: "Counts", folder: Path) -> int:
    """Prints the report and returns the exit code."""
    print(report)
    if report.is_clean:
        shutil.rmtree(folder)
        return 0
    print(f"The logs and the record are in {folder}.")
    return 1
