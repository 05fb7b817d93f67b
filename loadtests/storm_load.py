"""Records many edits, and kills processes at random moments.

Edits are recorded continuously, several per run and some over REST, while another client writes to the same runs.
Workers, and less often the web server and the sandbox, are killed and restarted, mostly while edits are being sent.
"""

import random
import time
from dataclasses import dataclass
from typing import Any

from loadtests.environment import Environment
from loadtests.processes import Worker, free_port
from loadtests.report import Report
from loadtests.rest_clients import patching
from runsadmin.models import Edit
from tests.faults.writer import writing

WORKERS = 3
LANES = 3  # Worker loops, each of which claims edits.
CLIENTS = 4  # REST clients that send PATCH requests.
LATENCY = 30  # The latency of the sandbox, in ms: requests must be in flight when a process is killed.


@dataclass
class StormReport(Report):
    kills_while_sending: int = 0
    kills_that_left_claims: int = 0


class StormLoad:
    def __init__(self, environment: Environment, *, edits: int, kills: int, seed: int | None = None) -> None:
        self.environment = environment
        self.edits = edits
        self.kills = kills
        self.random = random.Random(seed)
        self.report = StormReport()
        self.runs = environment.make_runs(max(10, edits // 7))
        self.port = free_port()
        self.web = environment.web(port=self.port)
        self.workers = [self._worker() for _ in range(WORKERS)]
        self.values = iter(range(10**9))
        # The claims counted at earlier kills, which must not be counted again before they expire.
        self.seen: set[Any] = set()

    def _worker(self) -> Worker:
        return self.environment.worker(lanes=LANES)

    def run(self) -> StormReport:
        began = time.monotonic()
        self.environment.sandbox.settings(latency_ms=LATENCY)
        with writing(self.environment.sandbox, *(run.upstream_id for run in self.runs), pause=0.05):
            with patching([self.web], self.runs, self.environment.token(), clients=CLIENTS, pause=0.5):
                for number in range(1, self.kills + 1):
                    self._record_until(self.edits * number // self.kills)
                    self._kill()
            self._record_until(self.edits)
            self.environment.wait_for_outcomes(seconds=180)
        self.report.count_results(self.environment)
        self.report.seconds = time.monotonic() - began
        return self.report

    # --- edits

    def _record_until(self, count: int) -> None:
        """Records edits until there are `count` edits, including those of the REST clients."""
        for _ in range(count - Edit.objects.count()):
            self.environment.record(self.random.choice(self.runs), f"storm-{next(self.values)}")

    # --- kills

    def _kill(self) -> None:
        victim = self.random.choices(("worker", "web", "sandbox"), (80, 12, 8))[0]
        time.sleep(self.random.uniform(0, 0.3))
        if self.random.random() < 0.8:  # Most kills wait until edits are in flight.
            self._wait_until_sending()
        tokens = self._sending() - self.seen
        self.seen |= tokens
        getattr(self, f"_kill_{victim}")()
        self.report.kills[victim] += 1
        self.report.restarts += 1
        self.report.kills_while_sending += bool(tokens)
        # The surviving processes store their outcomes; the claims of the killed one remain.
        time.sleep(10 * LATENCY / 1000)
        self.report.kills_that_left_claims += bool(tokens & self._sending())

    def _wait_until_sending(self) -> None:
        deadline = time.monotonic() + 2
        while len(self._sending() - self.seen) < 2 and time.monotonic() < deadline:
            time.sleep(0.005)

    def _sending(self) -> set[Any]:
        return set(Edit.objects.filter(status=Edit.Status.SENDING).values_list("claim_token", flat=True))

    def _kill_worker(self) -> None:
        index = self.random.randrange(len(self.workers))
        self.workers[index].kill()
        self.workers[index] = self._worker()

    def _kill_web(self) -> None:
        self.web.kill()
        self.web = self.environment.web(port=self.port)

    def _kill_sandbox(self) -> None:
        self.environment.sandbox.restart()
        self.environment.sandbox.settings(latency_ms=LATENCY)
