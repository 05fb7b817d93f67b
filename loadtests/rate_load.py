"""Records more edits than a connection may send. The sandbox's log shows how well the limiter keeps the rate.

Two web servers and four workers share one connection, while workers are killed and PostgreSQL is restarted. If anything
else was slower than the limiter, the test measured something else; this is counted as well.
"""

import random
import time
from bisect import bisect_left
from dataclasses import dataclass
from itertools import count, cycle, islice
from math import ceil

from django.db import connection

from loadtests.environment import Environment
from loadtests.processes import Postgres, Worker
from loadtests.report import Report
from loadtests.rest_clients import patching
from runsadmin.models import Edit
from runsadmin.models.edit import ENDED, UNSETTLED
from tests.faults.writer import writing

WEBS, WORKERS, LANES, CLIENTS = 2, 4, 3, 6
RUNS = 80
BACKLOG = 40  # Unsettled edits at any time: more than all processes claim together.

MINUTE, SHORT = 60.0, 10.0
TOLERATED = 0.02
# A short window may have this many more requests: two edits, one of them interactive, each send two requests at once.
EXTRA = 4
# With a smaller share of the limit, something other than the limiter was slow, and the test proves nothing.
MINIMUM_SHARE = 0.9


@dataclass(frozen=True)
class Window:
    """The requests within some seconds, and how many the limit allows."""

    seconds: float
    requests: int
    allowed: float

    @property
    def excess(self) -> float:
        return self.requests / self.allowed - 1

    @property
    def too_many(self) -> int:
        extra = 0 if self.seconds >= MINUTE else EXTRA
        return max(0, ceil(self.requests - self.allowed * (1 + TOLERATED) - extra))

    def __str__(self) -> str:
        return f"{self.requests} in {self.seconds:.1f} s: {100 * self.excess:+.1f}% of {self.allowed:.0f}"


@dataclass(frozen=True)
class Traffic:
    """The times of the requests, in order, as long as there was always more to send."""

    times: list[float]
    until: float
    per_minute: int

    @property
    def all(self) -> Window:
        return self._window(self.until - self.times[0], len(self.times))

    def busiest(self, seconds: float) -> Window | None:
        """Returns the window of this length that has the most requests, or None if the load was shorter."""
        if self.until - self.times[0] < seconds:
            return None
        counts = (bisect_left(self.times, began + seconds) - number for number, began in enumerate(self.times))
        return self._window(seconds, max(counts))

    def _window(self, seconds: float, requests: int) -> Window:
        return Window(seconds, requests, self.per_minute * seconds / 60)


@dataclass
class RateReport(Report):
    requests_per_minute: int = 0
    under_load: Window | None = None
    busiest_minute: Window | None = None
    busiest_ten_seconds: Window | None = None
    restarts_of_the_database: int = 0
    no_request_too_many: int = 0
    no_window_below_the_limit: int = 0


class RateLoad:
    def __init__(
        self,
        environment: Environment,
        postgres: Postgres,
        *,
        edits: int,
        requests_per_minute: int,
        disruptions: int,
        workers: int = WORKERS,
    ) -> None:
        limit = {"RUNSADMIN_UPSTREAM_REQUESTS_PER_MINUTE": str(requests_per_minute)}
        environment.overrides = {**environment.overrides, **limit}
        self.environment = environment
        self.postgres = postgres
        self.edits = edits
        self.report = RateReport(requests_per_minute=requests_per_minute)
        self.disruptions = list(islice(cycle([self._kill_a_worker, self._restart_the_database]), disruptions))
        self.random = random.Random(0)
        self.values = count()
        self.runs = environment.make_runs(RUNS)
        self.webs = [environment.web() for _ in range(WEBS)]
        self.workers = [self._worker() for _ in range(workers)]

    def _worker(self) -> Worker:
        return self.environment.worker(lanes=LANES)

    def run(self) -> RateReport:
        began = time.monotonic()
        self.environment.sandbox.clear_log()
        with writing(self.environment.sandbox, *(run.upstream_id for run in self.runs), pause=0.5):
            with patching(self.webs, self.runs, self.environment.token(), clients=CLIENTS, pause=1):
                # All disruptions are in the first half: the slots of a dead process remain unused, so only the second
                # half shows the full rate.
                for number, disruption in enumerate(self.disruptions, start=1):
                    self._record_until_ended(self.edits * number // (2 * len(self.disruptions)))
                    disruption()
                self._record_until_ended(self.edits)
            load_ended = time.time()
            self.environment.wait_for_outcomes(seconds=180)
        self._measure(load_ended)
        self.report.count_results(self.environment)
        self.report.seconds = time.monotonic() - began
        return self.report

    def _record_until_ended(self, ended: int) -> None:
        """Maintains a backlog until this many edits have ended."""
        while Edit.objects.filter(status__in=ENDED).count() < ended:
            for _ in range(BACKLOG - Edit.objects.filter(status__in=UNSETTLED).count()):
                self.environment.record(self.random.choice(self.runs), f"rate-{next(self.values)}")
            time.sleep(0.1)

    def _kill_a_worker(self) -> None:
        index = self.random.randrange(len(self.workers))
        self.workers[index].kill()
        self.workers[index] = self._worker()
        self.report.kills["worker"] += 1
        self.report.restarts += 1

    def _restart_the_database(self) -> None:
        self.postgres.stop()
        self.postgres.start()
        connection.close()
        self.report.restarts_of_the_database += 1

    def _measure(self, load_ended: float) -> None:
        times = [at for request in self.environment.sandbox.log() if (at := request["at"]) < load_ended]
        traffic, report = Traffic(times, load_ended, self.report.requests_per_minute), self.report
        report.under_load = traffic.all
        report.busiest_minute = traffic.busiest(MINUTE)
        report.busiest_ten_seconds = traffic.busiest(SHORT)
        busiest = [window for window in (report.busiest_minute, report.busiest_ten_seconds) if window]
        report.no_request_too_many = sum(window.too_many for window in (traffic.all, *busiest))
        report.no_window_below_the_limit = sum(window.excess < MINIMUM_SHARE - 1 for window in busiest)
