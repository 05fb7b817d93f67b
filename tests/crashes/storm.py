"""Many edits, many kills: `python -m tests.crashes.storm --edits 2000 --kills 200 [--database sqlite|postgres]`.

Prints the counts. The exit code is 1 when one that must be 0 is not.
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
    from tests.crashes.report import Report
    from tests.crashes.scene import Scene


def main() -> int:
    parser = argparse.ArgumentParser(prog="storm", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--edits", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--seed", type=int, help="the same kills again, as far as kills can be repeated")
    options = parser.parse_args()

    folder = Path(tempfile.mkdtemp(prefix="runsadmin-storm-"))
    database = nullcontext(f"sqlite:///{folder}/db.sqlite3") if options.database == "sqlite" else server()
    with database as url, prepared(url, folder) as scene:
        from tests.crashes.weather import Storm

        report = Storm(scene, edits=options.edits, kills=options.kills, seed=options.seed).blow()
    print(f"{'database':44} {options.database}")
    return told(report, folder)


@contextmanager
def prepared(url: str, folder: Path) -> Iterator["Scene"]:
    """A scene on a database of its own, for this process and those that it starts."""
    os.environ |= {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "tests.settings"}

    import django

    django.setup()

    from django.conf import settings
    from django.contrib.auth.models import User
    from django.core.management import call_command

    from tests.crashes.processes import RecordedSandbox
    from tests.crashes.scene import Scene, timeouts

    call_command("migrate", verbosity=0)
    alice = User.objects.create_superuser("alice")
    sandbox = RecordedSandbox.in_folder(folder / "sandbox")
    options = settings.RUNSADMIN_CONNECTIONS["default"]
    options |= timeouts() | {"URL": sandbox.url, "API_KEY": sandbox.key}
    scene = Scene(url, sandbox, folder, alice)
    try:
        yield scene
    finally:
        scene.end()
        sandbox.kill()


def told(report: "Report", folder: Path) -> int:
    """Prints it. Returns the exit code."""
    print(report)
    if report.is_clean:
        shutil.rmtree(folder)
        return 0
    print(f"What was written down on the way is in {folder}.")
    return 1


if __name__ == "__main__":
    sys.exit(main())
