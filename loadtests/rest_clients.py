"""Clients that PATCH runs over REST, one after the other, until they are stopped."""

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from loadtests.processes import Web
from runsadmin.models import Run


@contextmanager
def patching(webs: Sequence[Web], runs: Sequence[Run], token: str, *, clients: int, pause: float) -> Iterator[None]:
    """Clients continue after a web server was killed, because its successor listens on the same port."""
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
