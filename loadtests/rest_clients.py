"""REST clients that change runs, or only read, with one request after the other, until they are stopped."""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import requests

from loadtests.processes import Web
from runsadmin.models import Run


@contextmanager
def patching(webs: Sequence[Web], runs: Sequence[Run], token: str, *, clients: int, pause: float) -> Iterator[None]:
    """Clients continue after a web server has been killed, because its successor listens on the same port."""
    stopped = threading.Event()

    def patch(client: int) -> None:
        randomness, web, number = random.Random(client), webs[client % len(webs)], 0
        while not stopped.wait(pause):
            number += 1
            web.patch(randomness.choice(runs).upstream_id, {"team": f"rest-{client}-{number}"}, token)

    threads = [threading.Thread(target=patch, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


class Read(NamedTuple):
    path: str
    status: int
    seconds: float


class Reader:
    """Reads these paths in turn, over one connection."""

    def __init__(self, web: Web, paths: Sequence[str], token: str) -> None:
        self._api, self._paths = f"{web.url}/api/v1", paths
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Token {token}"

    def read_all(self, pause: float = 0) -> list[Read]:
        return [self._read(path, pause) for path in self._paths]

    def _read(self, path: str, pause: float) -> Read:
        time.sleep(pause)
        began = time.monotonic()
        status = self._session.get(f"{self._api}/{path}", timeout=60).status_code
        return Read(path, status, time.monotonic() - began)


@contextmanager
def reading(reader: Reader, pause: float) -> Iterator[list[Read]]:
    """Yields the list to which the reads are added."""
    stopped, reads = threading.Event(), list[Read]()

    def read() -> None:
        while not stopped.is_set():
            reads.extend(reader.read_all(pause))

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield reads
    finally:
        stopped.set()
        thread.join()
