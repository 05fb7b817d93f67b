"""`make run` as processes that can be found and killed: `python -m loadtests.whole_site --stops 30`.

Sends SIGTERM 0.1 to 5 s after each start, then kills each kind of process once. Exits with 1 if a process remains.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import requests

from loadtests.processes import free_port
from tests.waiting import until

ROOT = Path(__file__).resolve().parent.parent
# In seconds.
ENDS_WITHIN = 5.0


class WholeSite:
    """Runs `scripts/run.py` in a folder. Its processes are found by a variable of their environment."""

    def __init__(self, folder: Path, *, port: int, sandbox_port: int) -> None:
        self.folder, self.origin = folder, f"http://127.0.0.1:{port}"
        self.process: subprocess.Popen[bytes] | None = None
        self._mark = f"WHOLE_SITE={uuid.uuid4().hex}"
        for name in ("scripts", "manage.py", "Procfile", "runsadmin", "sandbox", "templates", "static"):
            (folder / name).symlink_to(ROOT / name)
        # A copy, because the settings look for other files, such as backups, next to this folder.
        shutil.copytree(ROOT / "project", folder / "project", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "var").mkdir()
        self._environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "ENV_FILE": os.devnull,
            "SECRET_KEY": "only-for-tests-" + "x" * 50,
            "DATABASE_URL": f"sqlite:///{folder}/db.sqlite3",
            "DJANGO_SETTINGS_MODULE": "tests.security.live_settings",
            "PYTHONPATH": str(ROOT),
            "PORT": str(port),
            "SANDBOX_PORT": str(sandbox_port),
            "RUNSADMIN_UPSTREAM_URL": f"http://127.0.0.1:{sandbox_port}/v1",
            "RUNSADMIN_UPSTREAM_API_KEY": "sandbox-tests",
            "RUNSADMIN_API_RATE_FILE": f"{folder}/api-rate.sqlite3",
            "RUNSADMIN_DEMO_PASSWORD": "demo",
            "RUNSADMIN_DEMO_TOKEN": uuid.uuid4().hex * 2,
        }
        name, _, value = self._mark.partition("=")
        self._environment[name] = value

    def start(self) -> None:
        """Does nothing if it is already running."""
        if self.is_running:
            return
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "scripts/run.py"], cwd=self.folder, env=self._environment, stdout=log, stderr=log
            )

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def terminate(self) -> None:
        if self.process:
            self.process.terminate()

    def wait(self) -> None:
        """Waits until the web server and a worker run."""
        until(self.is_ready, seconds=90)

    def is_ready(self) -> bool:
        if not self.is_running:
            raise RuntimeError((self.folder / "log").read_text())
        try:
            return requests.get(f"{self.origin}/readyz", timeout=5).ok
        except requests.RequestException:
            return False

    def pids(self, *words: str) -> list[int]:
        """The ids of our processes that have all of these words in their command lines."""
        _ = self.is_running  # Otherwise it could remain as a zombie.
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                is_ours = self._mark in (folder / "environ").read_text(errors="replace").split("\0")
                command = (folder / "cmdline").read_text(errors="replace").split("\0")
            except OSError:  # It has ended.
                continue
            if is_ours and command != [""] and all(any(word in part for part in command) for word in words):
                found.append(int(folder.name))
        return sorted(found)

    def seconds_until_ended(self) -> float:
        began = time.monotonic()
        until(lambda: not self.pids(), seconds=30)
        return time.monotonic() - began

    def web_processes(self) -> list[int]:
        """The master, and the processes that it has forked."""
        return self.pids("project.web")

    def end(self) -> None:
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        if self.process:
            self.process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="whole_site", description=(__doc__ or "").splitlines()[2])
    parser.add_argument("--stops", type=int, default=30)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="runsadmin-whole-site-"))
    site = WholeSite(folder, port=free_port(), sandbox_port=free_port())
    try:
        site.start()
        site.wait()
        moments = [0.1 + 4.9 * number / max(1, options.stops - 1) for number in range(options.stops)]
        stops = [stop_after(site, seconds) for seconds in [0, *moments]][1:]
        kills = {name: kill(site, name) for name in KILLED}
    finally:
        site.end()
    print(f"{'how often SIGTERM was sent':44} {len(stops)}")
    print(f"{'seconds until everything had ended, at most':44} {max(stops):.1f}")
    for name, seconds in kills.items():
        print(f"{f'seconds until the rest had ended: kill -9 {name}':44} {seconds:.1f}")
    shutil.rmtree(folder)
    return int(max(stops) > ENDS_WITHIN or max(kills.values()) > 2 * ENDS_WITHIN)


# The processes that are killed, and words of their command lines.
KILLED = {
    "scripts/run.py": ["scripts/run.py"],
    "web": ["project.web"],
    "worker": ["worker"],
    "sandbox": ["sandbox"],
}


def stop_after(site: WholeSite, seconds: float) -> float:
    """Sends SIGTERM this long after the start. Returns how many seconds later everything has ended."""
    site.start()
    time.sleep(seconds)
    site.terminate()
    return site.seconds_until_ended()


def kill(site: WholeSite, name: str) -> float:
    """Kills a process of a site that runs. Returns how many seconds later everything else has ended."""
    site.start()
    site.wait()
    os.kill(site.pids(*KILLED[name])[0], signal.SIGKILL)
    return site.seconds_until_ended()


if __name__ == "__main__":
    sys.exit(main())
