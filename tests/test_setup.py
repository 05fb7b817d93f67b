"""Every setting is in the example and the documentation, and an invalid setting prevents startup with an error."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import get_commands

from project.settings import env

ROOT = Path(__file__).resolve().parent.parent

# Variables that are read before the settings are loaded, or only by `make run`.
READ_ELSEWHERE = {"ENV_FILE", "PORT"}
REQUIRED = {
    "SECRET_KEY": "x" * 50,
    "RUNSADMIN_UPSTREAM_URL": "http://127.0.0.1:9/v1",
    "RUNSADMIN_UPSTREAM_API_KEY": "key",
}

PRINT_SETTINGS = "import project.settings as s; print(s.DATABASE['NAME'], *s.RUNSADMIN_CONNECTIONS)"


def test_env_example_has_every_setting() -> None:
    example = (ROOT / ".env.example").read_text()
    assert set(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=", example, re.MULTILINE)) == env.names | READ_ELSEWHERE


def test_docs_explain_every_setting() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    explained = set(re.findall(r"`([A-Z][A-Z0-9_]+)(?:=[^`]*)?`", page))
    assert env.names | READ_ELSEWHERE <= explained
    assert {name for name in explained if name.startswith("RUNSADMIN_")} - env.names <= {"RUNSADMIN_UPSTREAM_EU_URL"}


@pytest.mark.parametrize("name", ["operations", "rest-api", "security"])
def test_documented_commands_can_be_run(name: str) -> None:
    page = (ROOT / "docs" / f"{name}.md").read_text()
    assert ". .venv/bin/activate" in page
    commands = re.findall(r"(\S*) ?manage\.py ([a-z]\w+)", page)
    assert commands
    assert all(before.endswith("python") and command in get_commands() for before, command in commands)


def test_places_to_change_exist() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("## Where to change what")[2].partition("\n## ")[0]
    paths = re.findall(r"`?([\w.-]+/[\w./-]+)", table)
    assert paths
    assert all((ROOT / path).exists() for path in paths)


def start_with(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs Python with these arguments or, without any, reads the settings as a server does at startup."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RUNSADMIN_")}
    return subprocess.run(
        [sys.executable, *(arguments or ("-c", PRINT_SETTINGS))],
        cwd=ROOT,
        env=inherited | {"ENV_FILE": os.devnull, "DATABASE_URL": ""} | REQUIRED | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", ""),
        ("DEBUG", "maybe"),
        ("LOG_LEVEL", "loud"),
        ("DATABASE_URL", "mysql://user:hunter2@localhost/name"),
        ("DATABASE_URL", "postgresql://user:hunter2@localhost:port/name"),
        ("DATABASE_URL", "sqlite:///"),
        ("RUNSADMIN_UPSTREAM_URL", ""),
        ("RUNSADMIN_UPSTREAM_URL", "upstream.example/v1"),
        ("RUNSADMIN_UPSTREAM_URL", "https://user:hunter2@upstream.example/v1"),
        ("RUNSADMIN_UPSTREAM_URL", "https://upstream.example:port/v1"),
        ("RUNSADMIN_UPSTREAM_API_KEY", ""),
        ("RUNSADMIN_UPSTREAM_AUTH", "basic"),
        ("RUNSADMIN_UPSTREAM_READ_TIMEOUT", "10s"),
        ("RUNSADMIN_UPSTREAM_READ_TIMEOUT", "0"),
        ("RUNSADMIN_UPSTREAM_CONCURRENCY", "0"),
        ("RUNSADMIN_UPSTREAM_REQUESTS_PER_MINUTE", "-1"),
        ("RUNSADMIN_CONNECTIONS", "default,West-Europe"),
        ("RUNSADMIN_HOLD", "2"),
        ("RUNSADMIN_MAX_ATTEMPTS", "many"),
    ],
)
def test_invalid_setting_prevents_startup(name: str, value: str) -> None:
    stopped = start_with(**{name: value})

    assert stopped.returncode != 0
    last_line = stopped.stderr.splitlines()[-1]
    assert last_line.startswith("django.core.exceptions.ImproperlyConfigured: The setting")
    assert name in last_line
    assert ".env.example" in last_line
    assert "hunter2" not in stopped.stderr


@pytest.mark.parametrize("arguments", [("manage.py", "tokens"), ("-m", "project.web", "--port", "0")])
def test_invalid_setting_is_one_line(arguments: tuple[str, ...]) -> None:
    stopped = start_with(*arguments, DJANGO_SETTINGS_MODULE="project.settings", RUNSADMIN_HOLD="2")
    assert stopped.returncode == 1
    (line,) = stopped.stderr.splitlines()
    assert line.startswith("The setting RUNSADMIN_HOLD is invalid.")


def test_named_connection_needs_a_url() -> None:
    stopped = start_with(RUNSADMIN_CONNECTIONS="default,eu")
    assert "The setting RUNSADMIN_UPSTREAM_EU_URL is missing." in stopped.stderr


def test_each_connection_has_its_settings() -> None:
    started = start_with(
        RUNSADMIN_CONNECTIONS="eu",
        RUNSADMIN_UPSTREAM_URL="",
        RUNSADMIN_UPSTREAM_EU_URL="https://eu.example/openai/v1/",
        RUNSADMIN_UPSTREAM_EU_AUTH="azure-identity",
    )
    assert started.stdout == f"{ROOT / 'var' / 'db.sqlite3'} eu\n"


def test_relative_database_is_in_the_project() -> None:
    assert start_with(DATABASE_URL="sqlite:///var/other.sqlite3").stdout.startswith(str(ROOT / "var" / "other.sqlite3"))


def test_linked_database_is_opened_under_its_own_name(tmp_path: Path) -> None:
    link = tmp_path / "link.sqlite3"
    link.symlink_to(tmp_path / "own.sqlite3")
    assert start_with(DATABASE_URL=f"sqlite:///{link}").stdout.startswith(str(tmp_path / "own.sqlite3"))


def test_first_run_writes_private_secrets(tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "scripts" / "write_env.py")]
    subprocess.run(script, cwd=tmp_path, env=os.environ | {"SANDBOX_PORT": "9001"}, check=True)

    written = tmp_path / ".env"
    assert written.stat().st_mode & 0o777 == 0o600
    assert "RUNSADMIN_UPSTREAM_URL=http://127.0.0.1:9001/v1\n" in written.read_text()
    repeated = subprocess.run(script, cwd=tmp_path, capture_output=True, check=False)
    assert repeated.returncode != 0  # The script never overwrites the file.


def test_env_file_is_protected_at_startup(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("LOG_LEVEL=INFO\n")
    file.chmod(0o664)
    start_with(ENV_FILE=str(file))
    assert file.stat().st_mode & 0o777 == 0o660


@pytest.mark.parametrize("name", ["PORT", "SANDBOX_PORT"])
def test_port_in_use_is_reported_at_startup(name: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as used, socket.create_server(("127.0.0.1", 0)) as free:
        ports = {"PORT": str(free.getsockname()[1])} | {name: str(used.getsockname()[1])}
        free.close()
        key = {"RUNSADMIN_UPSTREAM_API_KEY": "sandbox-key"}
        stopped = subprocess.run(
            [sys.executable, str(ROOT / "scripts" / "run.py")],
            cwd=tmp_path,
            env=os.environ | REQUIRED | key | ports,
            capture_output=True,
            text=True,
            check=False,
        )
    assert stopped.returncode == 1
    assert f"Port {ports[name]} cannot be used" in stopped.stderr
    assert f"{name}=" in stopped.stderr
