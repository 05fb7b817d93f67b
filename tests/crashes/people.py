"""People who PATCH runs over REST, one after the other, until they are told to stop."""

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from runsadmin.models import Run
from tests.crashes.processes import Web


@contextmanager
def patching(webs: Sequence[Web], runs: Sequence[Run], token: str, *, people: int, pause: float) -> Iterator[None]:
    """A web server that was killed is asked again: whoever follows it listens on its port."""
    calm = threading.Event()

    def patch(interactive: int) -> None:
        chance, web, number = random.Random(interactive), webs[interactive % len(webs)], 0
        while not calm.wait(pause):
            number += 1
            web.patch(chance.choice(runs).upstream_id, {"team": f"rest-{interactive}-{number}"}, token)

    threads = [threading.Thread(target=patch, args=(interactive,)) for interactive in range(people)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        calm.set()
        for thread in threads:
            thread.join()
