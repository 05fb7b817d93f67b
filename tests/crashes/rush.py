"""More edits than a connection may send, and how fast they are sent: what the sandbox's log says of the limiter.

Two web servers, through which people PATCH, and four workers share the places of one connection. Meanwhile a worker is
killed and PostgreSQL is restarted, in turns. Nothing else may be slower than the limiter, or it would not be the
limiter that is measured: that is counted, too.
"""

import random
import time
from bisect import bisect_left
from dataclasses import dataclass
from itertools import count, cycle, islice
from math import ceil

from django.db import connection

from runsadmin.models import Edit
from runsadmin.models.edit import ENDED, UNSETTLED
from tests.crashes.people import patching
from tests.crashes.processes import Postgres, Worker
from tests.crashes.report import Report
from tests.crashes.scene import Scene
from tests.faults.writer import writing

WEBS, WORKERS, LANES, PEOPLE = 2, 4, 3, 6
RUNS = 80
BACKLOG = 40  # Edits that wait at any time: more than all processes have in their hands.

MINUTE, SHORT = 60.0, 10.0
TOLERATED = 0.02
# A look and its POST go out together, in each of the two lanes: so many more may fall into a window by its edges.
# A minute has to do without.
EDGES = 4
# With less than this in the busiest window it was not the limiter that was slow, and nothing is proved.
USED = 0.9


@dataclass(frozen=True)
class Window:
    """The requests of some seconds, and how many there might have been."""

    seconds: float
    requests: int
    allowed: float

    @property
    def excess(self) -> float:
        return self.requests / self.allowed - 1

    @property
    def too_many(self) -> int:
        edges = 0 if self.seconds >= MINUTE else EDGES
        return max(0, ceil(self.requests - self.allowed * (1 + TOLERATED) - edges))

    def __str__(self) -> str:
        return f"{self.requests} in {self.seconds:.1f} s: {100 * self.excess:+.1f} % of {self.allowed:.0f}"


@dataclass(frozen=True)
class Traffic:
    """When requests came, in their order, while there was always more to send."""

    times: list[float]
    until: float
    per_minute: int

    @property
    def all(self) -> Window:
        return self._window(self.until - self.times[0], len(self.times))

    def busiest(self, seconds: float) -> Window | None:
        """Of all windows of this length; None when the load was shorter."""
        if self.until - self.times[0] < seconds:
            return None
        counts = (bisect_left(self.times, began + seconds) - number for number, began in enumerate(self.times))
        return self._window(seconds, max(counts))

    def _window(self, seconds: float, requests: int) -> Window:
        return Window(seconds, requests, self.per_minute * seconds / 60)


@dataclass
class RushReport(Report):
    requests_per_minute: int = 0
    under_load: Window | None = None
    busiest_minute: Window | None = None
    busiest_ten_seconds: Window | None = None
    restarts_of_the_database: int = 0
    no_request_too_many: int = 0
    no_window_in_which_something_else_was_slow: int = 0


class Rush:
    def __init__(
        self, scene: Scene, postgres: Postgres, *, edits: int, requests_per_minute: int, troubles: int
    ) -> None:
        limit = {"RUNSADMIN_UPSTREAM_REQUESTS_PER_MINUTE": str(requests_per_minute)}
        scene.patience = {**scene.patience, **limit}
        self.scene = scene
        self.postgres = postgres
        self.edits = edits
        self.report = RushReport(requests_per_minute=requests_per_minute)
        self.troubles = list(islice(cycle([self._kill_a_worker, self._restart_the_database]), troubles))
        self.random = random.Random(0)
        self.values = count()
        self.runs = scene.make_runs(RUNS)
        self.webs = [scene.web() for _ in range(WEBS)]
        self.workers = [self._worker() for _ in range(WORKERS)]

    def _worker(self) -> Worker:
        return self.scene.worker(lanes=LANES)

    def hurry(self) -> RushReport:
        began = time.monotonic()
        self.scene.sandbox.clear_log()
        with writing(self.scene.sandbox, *(run.upstream_id for run in self.runs), pause=0.5):
            with patching(self.webs, self.runs, self.scene.token(), people=PEOPLE, pause=1):
                # All trouble is in the first half: what dies takes its places with it, and the second shows the pace.
                for number, trouble in enumerate(self.troubles, start=1):
                    self._go_on_until(self.edits * number // (2 * len(self.troubles)))
                    trouble()
                self._go_on_until(self.edits)
            load_ended = time.time()
            self.scene.wait_for_outcomes(seconds=180)
        self._measure(load_ended)
        self.report.judge(self.scene)
        self.report.seconds = time.monotonic() - began
        return self.report

    def _go_on_until(self, ended: int) -> None:
        """There is always more to send than has ended."""
        while Edit.objects.filter(status__in=ENDED).count() < ended:
            for _ in range(BACKLOG - Edit.objects.filter(status__in=UNSETTLED).count()):
                self.scene.record(self.random.choice(self.runs), f"rush-{next(self.values)}")
            time.sleep(0.1)

    def _kill_a_worker(self) -> None:
        place = self.random.randrange(WORKERS)
        self.workers[place].kill()
        self.workers[place] = self._worker()
        self.report.kills["worker"] += 1
        self.report.restarts += 1

    def _restart_the_database(self) -> None:
        self.postgres.stop()
        self.postgres.start()
        connection.close()
        self.report.restarts_of_the_database += 1

    def _measure(self, load_ended: float) -> None:
        times = [at for request in self.scene.sandbox.log() if (at := request["at"]) < load_ended]
        traffic, report = Traffic(times, load_ended, self.report.requests_per_minute), self.report
        report.under_load = traffic.all
        report.busiest_minute = traffic.busiest(MINUTE)
        report.busiest_ten_seconds = traffic.busiest(SHORT)
        busiest = [window for window in (report.busiest_minute, report.busiest_ten_seconds) if window]
        report.no_request_too_many = sum(window.too_many for window in (traffic.all, *busiest))
        report.no_window_in_which_something_else_was_slow = sum(window.excess < USED - 1 for window in busiest)
