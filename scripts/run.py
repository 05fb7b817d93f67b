"""`make run`: everything on this machine, on SQLite and the sandbox (or on the upstream that .env names).

Writes .env on first use, looks whether the ports are free, prepares the database and the static files, and becomes
honcho, which starts the lines of the Procfile and stops them all together.
"""

import os
import secrets
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import environ

ENV_FILE = Path(".env")
MANAGE = [sys.executable, "manage.py"]


def main() -> None:
    sandbox_port = os.environ.get("SANDBOX_PORT")
    if not ENV_FILE.exists():
        write_env_file(sandbox_port or "8001")
    environ.Env.read_env(ENV_FILE)

    upstream = urlsplit(os.environ.get("RUNSADMIN_UPSTREAM_URL", ""))
    with_sandbox = upstream.hostname == "127.0.0.1"
    ports = {"PORT": os.environ.setdefault("PORT", "8000")}
    if with_sandbox:
        # Who names another port for the sandbox this time means the address of the upstream too.
        ports["SANDBOX_PORT"] = os.environ["SANDBOX_PORT"] = sandbox_port or str(upstream.port)
        os.environ["RUNSADMIN_UPSTREAM_URL"] = upstream._replace(netloc=f"127.0.0.1:{ports['SANDBOX_PORT']}").geturl()
    for name, port in ports.items():
        assert_free(name, port)

    subprocess.run([*MANAGE, "migrate", "--verbosity", "0"], check=True)
    subprocess.run([*MANAGE, "collectstatic", "--no-input", "--verbosity", "0"], check=True)

    # honcho counts PORT up from line to line, so that only the first of the Procfile would get the right one.
    os.environ["WEB_PORT"] = ports["PORT"]
    lines = ["web", "worker", "demo", *(["sandbox"] if with_sandbox else [])]
    os.execvp("honcho", ["honcho", "--env", os.devnull, "start", *lines])  # noqa: S606


def write_env_file(sandbox_port: str) -> None:
    """Secrets of this machine's own, readable by its owner alone."""
    lines = [
        "# Written by `make run` on its first use. .env.example lists everything that can be set here.",
        f"SECRET_KEY={secrets.token_urlsafe(50)}",
        f"RUNSADMIN_UPSTREAM_URL=http://127.0.0.1:{sandbox_port}/v1",
        f"RUNSADMIN_UPSTREAM_API_KEY=sandbox-{secrets.token_urlsafe(24)}",
        f"RUNSADMIN_DEMO_PASSWORD={secrets.token_urlsafe(12)}",
        f"RUNSADMIN_DEMO_TOKEN={secrets.token_hex(32)}",
    ]
    with os.fdopen(os.open(ENV_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write("\n".join(lines) + "\n")


def assert_free(name: str, port: str) -> None:
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", int(port)))
    except (ValueError, OverflowError):
        sys.exit(f"{name} is {port!r}, which is no port: it has to be a number from 1 to 65535.")
    except OSError as error:
        other = 9000 if name == "PORT" else 9001
        sys.exit(
            f"Port {port} cannot be used ({error.strerror}): is `make run` running already, or another program?"
            f" Stop it, or choose another port: {name}={other} make run"
        )


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    except KeyboardInterrupt:
        sys.exit(130)
