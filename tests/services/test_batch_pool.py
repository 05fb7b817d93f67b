"""The threads that send the requests of a batch."""

from collections.abc import Callable
from functools import partial
from threading import Event

from runsadmin.services.edits.batch.pool import Priority, WorkerPool


def test_closed_pool_runs_or_drops_each_job() -> None:
    ran: list[int] = []
    dropped: list[int] = []
    errors: list[BaseException] = []
    is_closed = Event()

    def returning(number: int) -> Callable[[object], int]:
        return lambda _: number if number < 1000 or is_closed.wait(10) else -1

    with WorkerPool[None](4) as pool:
        for number in range(2000):
            if number == 1500:
                pool.close()
                is_closed.set()
            drop = partial(dropped.append, number)
            pool.submit(Priority.FETCH, returning(number), ran.append, errors.append, drop)
        while pool.unfinished > 0:
            for process in pool.collect(2000, timeout=1, until=0):
                process()
    assert errors == []
    assert sorted(ran + dropped) == list(range(2000))
    assert min(dropped) < 1500
    assert set(range(1500, 2000)) <= set(dropped)
