"""Starts the web server: `python -m project.web --port 8000`.

The application is loaded once. The processes are then forked, and share the socket.
"""

import argparse
import gc
import logging
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import connection
from multiprocessing.context import ForkProcess
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from project.web.server import Server

forking = multiprocessing.get_context("fork")
logger = logging.getLogger("project.web")

# In seconds after SIGTERM. Longer than project.web.server.GRACE.
KILL_AFTER = 4.3
# In seconds, before a process that has ended is replaced.
PAUSE = 0.5


class Master:
    """Keeps the processes running until SIGTERM or SIGINT, or until `parent` has ended."""

    def __init__(self, make_server: "Callable[..., Server]", *, parent: int | None) -> None:
        self.make_server, self.parent = make_server, parent
        self.has_signal = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.has_signal = True

    @property
    def is_stopping(self) -> bool:
        return self.has_signal or self.parent not in (None, os.getppid())

    def run(self, count: int) -> None:
        processes = [self._start() for _ in range(count)]
        while not self.is_stopping:
            # Not for longer: a signal that arrives just before the wait does not end it.
            connection.wait([process.sentinel for process in processes], timeout=0.2)
            for index, process in enumerate(processes):
                if process.exitcode is not None and not self.is_stopping:
                    logger.error("A web process ended with exit code %s. Another one starts.", process.exitcode)
                    time.sleep(PAUSE)
                    processes[index] = self._start()
        self._stop(processes)

    def _start(self) -> ForkProcess:
        process = forking.Process(target=self._serve, args=[os.getpid()])
        process.start()
        return process

    def _stop(self, processes: list[ForkProcess]) -> None:
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + KILL_AFTER
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
            process.kill()
            process.join()

    def _serve(self, parent: int) -> None:
        server = self.make_server(parent=parent)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.stop())
        if not self.has_signal:  # The master's handler may have run in this process.
            server.run()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m project.web", description="Starts the web server.")
    parser.add_argument("--host", default="127.0.0.1", help="The address to listen on (default: %(default)s).")
    parser.add_argument("--port", type=int, default=8000, help="The port to listen on (default: %(default)s).")
    parser.add_argument("--processes", type=int, default=2, help="How many processes (default: %(default)s).")
    parser.add_argument("--threads", type=int, default=4, help="How many threads in each (default: %(default)s).")
    parser.add_argument("--stop-with-parent", action="store_true", help="Stop when the parent process ends.")
    options = parser.parse_args()
    parent = os.getppid() if options.stop_with_parent else None
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        listener = socket.create_server((options.host, options.port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", error)
        sys.exit(
            f"{options.host}:{options.port} cannot be used ({reason}): is this server running already, or"
            " another program? Stop it, or choose another port with --port."
        )
    # Slow: the application is loaded after the port is known to be free, and before the processes are forked.
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management.base import SystemCheckError

    try:
        from project.web.server import Server
        from project.wsgi import application
    except (ImproperlyConfigured, SystemCheckError) as error:  # The message says which setting to correct.
        sys.exit(str(error))

    gc.freeze()  # Collecting would copy the memory that the processes share.
    Master(partial(Server, application, listener, threads=options.threads), parent=parent).run(options.processes)


if __name__ == "__main__":
    main()
