"""Many edits and many kills: `python -m loadtests.storm --edits 2000 --kills 200 [--database sqlite|postgres]`.

Prints the counts. Exits with 1 if a count that must be 0 is not.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from tests.postgres import server

if TYPE_CHECKING:
    from loadtests.backups_load import BackupsReport
    from loadtests.environment import Environment
    from loadtests.report import Report


def main() -> int:
    parser = argparse.ArgumentParser(prog="storm", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--edits", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--seed", type=int, help="repeat the same kills, as far as timing allows")
    options = parser.parse_args()

    folder = Path(tempfile.mkdtemp(prefix="runsadmin-storm-"))
    database = nullcontext(f"sqlite:///{folder}/db.sqlite3") if options.database == "sqlite" else server()
    with database as url, prepared(url, folder) as environment:
        from loadtests.storm_load import StormLoad

        report = StormLoad(environment, edits=options.edits, kills=options.kills, seed=options.seed).run()
    print(f"{'database':44} {options.database}")
    return print_report(report, folder)


@contextmanager
def prepared(url: str, folder: Path) -> Iterator["Environment"]:
    """Yields an environment whose database this process and its children use."""
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


def print_report(report: "Report | BackupsReport", folder: Path) -> int:
    """Prints the report and returns the exit code."""
    print(report)
    if report.is_clean:
        shutil.rmtree(folder)
        return 0
    print(f"The logs and the record are in {folder}.")
    return 1


if __name__ == "__main__":
    sys.exit(main())
