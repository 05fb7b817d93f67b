"""`make run`: starts everything on this machine, with the sandbox as upstream unless .env has the key of another one.

Checks that the ports are free, backs up and migrates the database, and then becomes honcho, which starts the processes
of the Procfile and stops them together.
"""

import os
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import environ


def main() -> None:
    environ.Env.read_env(".env")
    web_port = os.environ.get("PORT", "8000")
    assert_free("PORT", web_port)
    # honcho gives every process of the Procfile its own PORT.
    os.environ["WEB_PORT"] = web_port

    processes = ["web", "worker"]
    if (key := os.environ.get("RUNSADMIN_UPSTREAM_API_KEY", "")).startswith("sandbox-"):
        os.environ["SANDBOX_KEY"] = key
        processes += ["sandbox", "demo"]
        upstream = urlsplit(os.environ.get("RUNSADMIN_UPSTREAM_URL", ""))
        sandbox_port = os.environ.setdefault("SANDBOX_PORT", str(upstream.port or 8001))
        assert_free("SANDBOX_PORT", sandbox_port)
        # SANDBOX_PORT also overrides the port of the upstream URL.
        os.environ["RUNSADMIN_UPSTREAM_URL"] = upstream._replace(netloc=f"127.0.0.1:{sandbox_port}").geturl()

    subprocess.run([sys.executable, "manage.py", "upgrade"], check=True)
    if "demo" not in processes:
        print(
            f"Dashboard: http://127.0.0.1:{web_port}/ (create an account: .venv/bin/python manage.py createsuperuser)"
        )
    # Two workers, one for each of two cores.
    start = ["start", "--concurrency", "worker=2"]
    os.execvp("honcho", ["honcho", "--env", os.devnull, "--no-prefix", *start, *processes])  # noqa: S606


def assert_free(name: str, port: str) -> None:
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", int(port)))
    except (ValueError, OverflowError):
        sys.exit(f"{name} is {port!r}, which is not a port. Set a number from 1 to 65535.")
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
