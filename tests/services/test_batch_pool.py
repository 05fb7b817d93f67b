"""The threads that send the requests of a batch."""

from collections.abc import Callable
from functools import partial

from runsadmin.services.edits.batch.pool import Priority, WorkerPool


def test_closed_pool_runs_or_drops_each_job() -> None:
    ran: list[int] = []
    dropped: list[int] = []
    errors: list[BaseException] = []

    def returning(number: int) -> Callable[[object], int]:
        return lambda _: number

    with WorkerPool[None](4) as pool:
        for number in range(2000):
            if number == 1500:
                pool.close()
            drop = partial(dropped.append, number)
            pool.submit(Priority.FETCH, returning(number), ran.append, errors.append, drop)
        while pool.unfinished > 0:
            for process in pool.collect(2000, timeout=1, until=0):
                process()
    assert sorted(ran + dropped) == list(range(2000))
    assert set(range(1500, 2000)) <= set(dropped)
