"""Starts the web server: `python -m project.web --port 8000`."""

import argparse
import gc
import multiprocessing
import os
import resource
import signal
import socket
import sys
import time
from multiprocessing import connection
from typing import Any

forking = multiprocessing.get_context("fork")

# In seconds, after SIGTERM. Longer than project.web.server.GRACE.
KILL_AFTER = 4.4


class Master:
    """Keeps the processes running. They share the socket, and start quickly since they are forked."""

    def __init__(self, listener: socket.socket, processes: int, threads: int) -> None:
        self.listener, self.threads = listener, threads
        self.is_stopping = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        self.processes = [self.start() for _ in range(processes)]

    def stop(self, *_: Any) -> None:
        self.is_stopping = True

    def start(self) -> Any:
        process = forking.Process(target=serve, args=(self, os.getpid()))
        process.start()
        return process

    def run(self, parent: int | None) -> None:
        while not self.is_stopping and parent in (None, os.getppid()):
            connection.wait([process.sentinel for process in self.processes], timeout=0.2)
            for index, process in enumerate(self.processes):
                if not process.is_alive() and not self.is_stopping:
                    print(f"A web process ended with exit code {process.exitcode}; starting another.", file=sys.stderr)
                    time.sleep(1)
                    self.processes[index] = self.start()
        for process in self.processes:
            process.terminate()
        deadline = time.monotonic() + KILL_AFTER
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
            process.kill()
            process.join()


def serve(master: Master, parent: int) -> None:
    from waitress.adjustments import Adjustments

    from project.web.server import OPTIONS, Server, dispatcher
    from project.wsgi import application

    server = Server(
        application, {}, True, master.listener,
        dispatcher=dispatcher(master.threads), adj=Adjustments(sockets=[master.listener], **OPTIONS),
        sockinfo=(master.listener.family, master.listener.type, 0, master.listener.getsockname()), bind_socket=False,
    )  # fmt: skip
    server.parent = parent
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    if master.is_stopping:
        return
    import logging
    logging.getLogger("waitress.queue").setLevel("ERROR")
    if v := os.environ.get("SWITCH"): sys.setswitchinterval(float(v))
    server.run()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m project.web", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=4)
    options = parser.parse_args()
    try:
        listener = socket.create_server((options.host, options.port), backlog=1024)
    except OSError as error:
        sys.exit(f"{options.host}:{options.port} cannot be used ({error.strerror}): is another program using it?")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY and hard < 4096 else 4096, hard))
    import project.wsgi  # noqa: F401

    gc.freeze()
    Master(listener, options.processes, options.threads).run(None)


if __name__ == "__main__":
    main()
