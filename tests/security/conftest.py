"""The site as real processes that use the test's database, and a client that acts like a browser."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from tests.engine.conftest import url_of_the_test_database
from tests.sandbox_client import Sandbox
from tests.waiting import until

PRODUCTION = {
    "ENV_FILE": os.devnull,
    "HTTPS": "on",
    "ALLOWED_HOSTS": "runs.example.org",
    "SECRET_KEY": "only-for-tests-" + "x" * 50,
    "RUNSADMIN_UPSTREAM_URL": "https://upstream.example/v1",
    "RUNSADMIN_UPSTREAM_API_KEY": "key-of-the-tests",
    "DJANGO_SETTINGS_MODULE": "project.settings",
}


def run_in_production(code: str, **environment: str) -> list[str]:
    """Runs code in a process with production settings. Returns the lines that it prints."""
    process = subprocess.run(
        [sys.executable, "-c", f"import django; django.setup()\n{code}"],
        cwd=settings.BASE_DIR, env=os.environ | PRODUCTION | environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return process.stdout.splitlines()


class Browser(requests.Session):
    """Keeps cookies, and submits forms with their CSRF token, as a browser does."""

    def __init__(self, origin: str) -> None:
        super().__init__()
        self.origin = origin
        self.trust_env = False

    def request(self, method: Any, url: Any, *args: Any, **options: Any) -> requests.Response:
        absolute_url = url if "://" in url else f"{self.origin}{url}"
        return super().request(method, absolute_url, *args, **{"timeout": 30} | options)

    def submit(self, page: str, fields: dict[str, Any], **options: Any) -> requests.Response:
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', self.get(page).text)
        assert token is not None
        return self.post(page, {"csrfmiddlewaretoken": token[1], **fields}, **options)

    def sign_in(self, username: str, password: str, **options: Any) -> requests.Response:
        return self.submit("/admin/login/?next=/admin/", {"username": username, "password": password}, **options)


class Site:
    """A web server, as in the Procfile, and workers."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = os.environ | environment
        self.processes: list[subprocess.Popen[bytes]] = []
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.origin = f"http://127.0.0.1:{self.port}"

    def start_web(self) -> None:
        self._start("web", ["project.web", "--port", str(self.port), "--processes", "1", "--stop-with-parent"])
        until(self._responds, seconds=60)

    def start_worker(self) -> None:
        self._start("worker", ["manage.py", "worker", "--skip-checks"])
        until(lambda: "started" in self.log("worker"), seconds=60)

    @property
    def pids(self) -> list[int]:
        """The ids of all processes and their descendants."""

        def with_descendants(pid: int) -> list[int]:
            files = Path(f"/proc/{pid}/task").glob("*/children")
            children = [int(child) for file in files for child in file.read_text().split()]
            return [pid, *(descendant for child in children for descendant in with_descendants(child))]

        return [pid for process in self.processes for pid in with_descendants(process.pid)]

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def browser(self) -> Browser:
        return Browser(self.origin)

    def stop(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(20)

    def _start(self, name: str, command: list[str]) -> None:
        program = [sys.executable] if command[0] == "manage.py" else [sys.executable, "-m"]
        with (self.folder / f"{name}.log").open("a") as log:
            self.processes.append(
                subprocess.Popen(
                    [*program, *command], cwd=settings.BASE_DIR, env=self.environment, stdout=log, stderr=log
                )
            )

    def _responds(self) -> bool:
        assert self.processes[-1].poll() is None, self.log("web")
        try:
            return self.browser().get("/livez").ok
        except requests.ConnectionError:
            return False


def default_environment(sandbox: Sandbox, folder: Path) -> dict[str, str]:
    return {
        "RUNSADMIN_API_RATE_FILE": str(folder / "api-rate.sqlite3"),
        "DJANGO_SETTINGS_MODULE": "tests.security.live_settings",
        "DATABASE_URL": url_of_the_test_database(),
        "RUNSADMIN_UPSTREAM_URL": sandbox.url,
        "RUNSADMIN_UPSTREAM_API_KEY": sandbox.key,
    }


# Not for the session: other tests need to be the only user of the database.
@pytest.fixture(scope="package")
def web(django_db_setup: None, sandbox_process: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("web")
    site = Site(folder, default_environment(sandbox_process, folder))
    site.start_web()
    yield site
    site.stop()


@pytest.fixture
def site(web: Site, transactional_db: None, sandbox: Sandbox) -> Site:
    """A web server with the default settings. Tests share it, because starting one takes seconds."""
    return web


@pytest.fixture
def make_site(transactional_db: None, sandbox: Sandbox, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Makes a site with other settings, without starting it. Stops it after the test."""
    sites: list[Site] = []

    def make_site(**environment: str) -> Site:
        sites.append(Site(tmp_path, default_environment(sandbox, tmp_path) | environment))
        return sites[-1]

    yield make_site
    for site in sites:
        site.stop()


@pytest.fixture
def csrf_client() -> Client:
    """A client whose requests need CSRF tokens, as those of a browser do."""
    return Client(enforce_csrf_checks=True)


@pytest.fixture
def root(db: None) -> User:
    """A superuser, so that no request is refused for lack of a permission."""
    return User.objects.create_superuser("root", password="root")
