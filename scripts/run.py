"""`make run`: starts everything on this machine, with the sandbox as upstream unless .env has the key of another one.

Checks that the ports are free, backs up and migrates the database, and then runs the processes of the Procfile until
one of them ends, or until SIGTERM or Ctrl-C. All of them end within five seconds.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import environ

# In seconds. Longer than project.web.__main__.KILL_AFTER.
KILL_AFTER = 4.5

signals: list[int] = []
# If make itself is killed, it cannot stop this process.
parent = os.getppid() if "MAKELEVEL" in os.environ else None


def main() -> int:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: signals.append(number))
    environ.Env.read_env(".env")
    web_port = os.environ.setdefault("PORT", "8000")
    assert_free("PORT", web_port)

    # Two workers, one for each of two cores.
    names = ["web", "worker", "worker"]
    if (key := os.environ.get("RUNSADMIN_UPSTREAM_API_KEY", "")).startswith("sandbox-"):
        os.environ["SANDBOX_KEY"] = key
        names += ["sandbox", "demo"]
        upstream = urlsplit(os.environ.get("RUNSADMIN_UPSTREAM_URL", ""))
        sandbox_port = os.environ.setdefault("SANDBOX_PORT", str(upstream.port or 8001))
        assert_free("SANDBOX_PORT", sandbox_port)
        # SANDBOX_PORT also overrides the port of the upstream URL.
        os.environ["RUNSADMIN_UPSTREAM_URL"] = upstream._replace(netloc=f"127.0.0.1:{sandbox_port}").geturl()

    # It gets no SIGTERM: a migration that ends between its commit and the record of it cannot be repeated.
    if failure := run({"upgrade": "exec python manage.py upgrade"}, ["upgrade"], terminates=False):
        return failure
    if "demo" not in names:
        print(
            f"Dashboard: http://127.0.0.1:{web_port}/ (create an account: .venv/bin/python manage.py createsuperuser)",
            flush=True,
        )
    commands = dict(line.split(": ", 1) for line in Path("Procfile").read_text().splitlines())
    return run(commands, names)


def run(commands: dict[str, str], names: list[str], *, terminates: bool = True) -> int:
    """Runs commands until the first of them ends. Returns its exit code, or 128 and more after a signal."""
    # In a session of its own, a process does not get the Ctrl-C of the terminal.
    # The Procfile is trusted, so a shell may run its commands.
    started = [
        subprocess.Popen(commands[name], shell=True, start_new_session=True)  # noqa: S602  # nosec B602
        for name in names
        if not signals
    ]
    ended: list[tuple[str, int]] = []
    while not (ended or signals) and parent in (None, os.getppid()):
        time.sleep(0.1)
        codes = [process.poll() for process in started]
        ended = [(name, code) for name, code in zip(names, codes, strict=True) if code is not None]
    stop(started, terminates=terminates)
    if signals or not ended:
        return 128 + signals[0] if signals else 1
    if len(names) > 1:
        print("The process {!r} ended with exit code {}, so all others were stopped.".format(*ended[0]))
    return ended[0][1]


def stop(processes: list[subprocess.Popen[bytes]], *, terminates: bool) -> None:
    deadline = time.monotonic() + KILL_AFTER
    for process in processes:
        if terminates:
            process.terminate()
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


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
    sys.exit(main())
