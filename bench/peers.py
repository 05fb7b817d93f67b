"""The alternatives to a bulk edit, which store and fetch nothing: loops over the vendor's SDK, and our client alone.

Each runs in its own process, and prints the seconds that its calls took:
`python -m bench.peers PEER PORT FIRST LAST RUNS_PER_THREAD IN_FLIGHT`.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

type Pairs = Sequence[tuple[str, str]]

METADATA = {"team": "red", "env": "prod", "ticket": "x"}


def sdk_loop(base_url: str, pairs: Pairs, in_flight: int) -> float:
    """One call after the other, whatever `in_flight` is."""
    from openai import OpenAI

    client = OpenAI(api_key="bench", base_url=base_url, max_retries=0)
    update = client.beta.threads.runs.update
    update(pairs[0][1], thread_id=pairs[0][0], metadata=METADATA)  # Connects before the time is measured.
    began = time.monotonic()
    for thread, run in pairs:
        update(run, thread_id=thread, metadata=METADATA)
    return time.monotonic() - began


def sdk_async(base_url: str, pairs: Pairs, in_flight: int) -> float:
    """The asynchronous client, with a semaphore."""
    return asyncio.run(_sdk_async(base_url, pairs, in_flight))


async def _sdk_async(base_url: str, pairs: Pairs, in_flight: int) -> float:
    from openai import AsyncOpenAI

    client = AsyncOpenAI(api_key="bench", base_url=base_url, max_retries=0)
    slots = asyncio.Semaphore(in_flight)

    async def update(thread: str, run: str) -> None:
        async with slots:
            await client.beta.threads.runs.update(run, thread_id=thread, metadata=METADATA)

    await update(*pairs[0])
    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for thread, run in pairs:
            tasks.create_task(update(thread, run))
    return time.monotonic() - began


def pushing_alone(base_url: str, pairs: Pairs, in_flight: int) -> float:
    """Our own client alone: no rows, no fetches, no rate limiter."""
    from runsadmin.conf import Connection
    from runsadmin.upstream.client import Client

    client = Client(Connection("default", base_url, "bench", "bearer", "", "", "", 3, 10, in_flight, 0))
    began = time.monotonic()
    with ThreadPoolExecutor(in_flight) as pool:
        for _ in pool.map(lambda pair: client.modify_run(pair[0], pair[1], METADATA), pairs):
            pass
    return time.monotonic() - began


PEERS: dict[str, Callable[[str, Pairs, int], float]] = {
    "sdk_loop": sdk_loop,
    "sdk_async": sdk_async,
    "pushing_alone": pushing_alone,
}


def main(peer: str, port: str, first: str, last: str, runs_per_thread: str, in_flight: str) -> None:
    if peer == "pushing_alone":
        import django

        django.setup()
    numbers = (divmod(number, int(runs_per_thread)) for number in range(int(first), int(last)))
    pairs = [(f"thread_{thread:06}", f"run_{thread:06}_{run:04}") for thread, run in numbers]
    print(PEERS[peer](f"http://127.0.0.1:{port}/v1", pairs, int(in_flight)))


if __name__ == "__main__":
    main(*sys.argv[1:])
