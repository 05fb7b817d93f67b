"""Many edits and many kills at random moments, on whatever database and sandbox a scene has.

Edits are recorded all the time, some of them over REST, several per run, while somebody else writes to the same runs.
Workers, now and then the web server, now and then the sandbox are killed, most of them while edits are being sent, and
started again. In the end everything is counted, and what must be nothing has to be.
"""

import random
import time
from dataclasses import dataclass
from typing import Any

from runsadmin.models import Edit
from tests.crashes.people import patching
from tests.crashes.processes import Worker, free_port
from tests.crashes.report import Report
from tests.crashes.scene import Scene
from tests.faults.writer import writing

WORKERS = 3
LANES = 3  # Loops per worker, each with an edit in its hands.
CLIENTS = 4  # People who PATCH.
LATENCY = 30  # Milliseconds that the sandbox takes: so that edits are under way when somebody is killed.


@dataclass
class StormReport(Report):
    kills_while_sending: int = 0
    kills_that_left_edits_in_the_middle: int = 0


class Storm:
    def __init__(self, scene: Scene, *, edits: int, kills: int, seed: int | None = None) -> None:
        self.scene = scene
        self.edits = edits
        self.kills = kills
        self.random = random.Random(seed)
        self.report = StormReport()
        self.runs = scene.make_runs(max(10, edits // 7))
        self.port = free_port()
        self.web = scene.web(port=self.port)
        self.workers = [self._worker() for _ in range(WORKERS)]
        self.values = iter(range(10**9))
        # Claims that stood at a kill. Those of the killed run out by and by: none counts twice.
        self.seen: set[Any] = set()

    def _worker(self) -> Worker:
        return self.scene.worker(lanes=LANES)

    def blow(self) -> StormReport:
        began = time.monotonic()
        self.scene.sandbox.settings(latency_ms=LATENCY)
        with writing(self.scene.sandbox, *(run.upstream_id for run in self.runs), pause=0.05):
            with patching([self.web], self.runs, self.scene.token(), people=CLIENTS, pause=0.5):
                for number in range(1, self.kills + 1):
                    self._record_until(self.edits * number // self.kills)
                    self._kill()
            self._record_until(self.edits)
            self.scene.wait_for_outcomes(seconds=180)
        self.report.judge(self.scene)
        self.report.seconds = time.monotonic() - began
        return self.report

    # --- edits

    def _record_until(self, count: int) -> None:
        """Those that nobody recorded over REST are recorded here."""
        for _ in range(count - Edit.objects.count()):
            self.scene.record(self.random.choice(self.runs), f"storm-{next(self.values)}")

    # --- kills

    def _kill(self) -> None:
        victim = self.random.choices(("worker", "web", "sandbox"), (80, 12, 8))[0]
        time.sleep(self.random.uniform(0, 0.3))
        if self.random.random() < 0.8:  # Most of them are aimed: a moment is waited for at which edits are under way.
            self._wait_until_sending()
        tokens = self._sending() - self.seen
        self.seen |= tokens
        getattr(self, f"_kill_{victim}")()
        self.report.kills[victim] += 1
        self.report.restarts += 1
        self.report.kills_while_sending += bool(tokens)
        # Those who live store the outcome of what they had in their hands; the others' claims stand as they were.
        time.sleep(10 * LATENCY / 1000)
        self.report.kills_that_left_edits_in_the_middle += bool(tokens & self._sending())

    def _wait_until_sending(self) -> None:
        deadline = time.monotonic() + 2
        while len(self._sending() - self.seen) < 2 and time.monotonic() < deadline:
            time.sleep(0.005)

    def _sending(self) -> set[Any]:
        return set(Edit.objects.filter(status=Edit.Status.SENDING).values_list("claim_token", flat=True))

    def _kill_worker(self) -> None:
        place = self.random.randrange(len(self.workers))
        self.workers[place].kill()
        self.workers[place] = self._worker()

    def _kill_web(self) -> None:
        self.web.kill()
        self.web = self.scene.web(port=self.port)

    def _kill_sandbox(self) -> None:
        self.scene.sandbox.restart()
        self.scene.sandbox.settings(latency_ms=LATENCY)
