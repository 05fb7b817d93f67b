"""Many edits and many kills at random moments, on whatever database and sandbox a scene has.

Edits are recorded all the time, some of them over REST, several per run, while somebody else writes to the same runs.
Workers, now and then the web server, now and then the sandbox are killed, most of them while edits are being sent, and
started again. In the end everything is counted, and what must be nothing has to be.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from runsadmin import conf
from runsadmin.models import Edit
from runsadmin.models.edit import ENDED
from runsadmin.services.edits import claims
from tests.crashes import judge
from tests.crashes.processes import Worker, free_port
from tests.crashes.scene import Scene, writing
from tests.faults.writer import KEY

WORKERS = 3
LANES = 3  # Loops per worker, each with an edit in its hands.
CLIENTS = 4  # People who PATCH.
LATENCY = 30  # Milliseconds that the sandbox takes: so that edits are under way when somebody is killed.


@dataclass
class Report:
    """What is printed at the end. What begins with `no_` must be 0."""

    edits_recorded: int = 0
    edits_recorded_over_rest: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    kills: Counter[str] = field(default_factory=Counter)
    kills_while_sending: int = 0
    kills_that_left_edits_in_the_middle: int = 0
    restarts: int = 0
    posts: int = 0
    writers_pairs: int = 0
    writers_pairs_lost_in_the_gap: int = 0
    seconds: float = 0.0
    no_edit_without_an_outcome: int = 0
    no_difference_between_planned_and_told: int = 0
    no_post_without_a_look_in_between: int = 0
    no_run_whose_edits_differ_from_upstream: int = 0
    no_run_whose_mirror_differs_from_upstream: int = 0
    no_writers_pair_lost_outside_the_gap: int = 0

    @property
    def is_clean(self) -> bool:
        return not any(value for name, value in vars(self).items() if name.startswith("no_"))

    def __str__(self) -> str:
        return "\n".join(f"{name.replace('_', ' '):44} {_shown(value)}" for name, value in vars(self).items())


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return f"{sum(value.values())} ({', '.join(f'{name} {count}' for name, count in sorted(value.items()))})"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


class Storm:
    def __init__(self, scene: Scene, *, edits: int, kills: int, seed: int | None = None) -> None:
        self.scene = scene
        self.edits = edits
        self.kills = kills
        self.random = random.Random(seed)
        self.report = Report()
        self.runs = scene.make_runs(max(10, edits // 7))
        self.port = free_port()
        self.web = scene.web(port=self.port)
        self.workers = [self._worker() for _ in range(WORKERS)]
        self.values = iter(range(10**9))

    def _worker(self) -> Worker:
        return self.scene.worker(lanes=LANES)

    def blow(self) -> Report:
        began = time.monotonic()
        self.scene.sandbox.settings(latency_ms=LATENCY)
        with writing(self.scene.sandbox, [run.upstream_id for run in self.runs], pause=0.05):
            with self._people():
                for number in range(1, self.kills + 1):
                    self._record_until(self.edits * number // self.kills)
                    self._kill()
            self._record_until(self.edits)
            self.scene.wait_for_outcomes(seconds=180)
        self._judge()
        self.report.seconds = time.monotonic() - began
        return self.report

    # --- edits

    def _record_until(self, count: int) -> None:
        """Those that nobody recorded over REST are recorded here."""
        for _ in range(count - Edit.objects.count()):
            self.scene.record(self.random.choice(self.runs), f"storm-{next(self.values)}")

    @contextmanager
    def _people(self) -> Iterator[None]:
        token, calm = self.scene.token(), threading.Event()
        people = [threading.Thread(target=self._patch, args=(number, token, calm)) for number in range(CLIENTS)]
        for person in people:
            person.start()
        try:
            yield
        finally:
            calm.set()
            for person in people:
                person.join()

    def _patch(self, person: int, token: str, calm: threading.Event) -> None:
        chance = random.Random(person)
        number = 0
        while not calm.wait(0.5):
            number += 1
            self.web.patch(chance.choice(self.runs).upstream_id, {"team": f"rest-{person}-{number}"}, token)

    # --- kills

    def _kill(self) -> None:
        victim = self.random.choices(("worker", "web", "sandbox"), (80, 12, 8))[0]
        time.sleep(self.random.uniform(0, 0.3))
        if self.random.random() < 0.8:  # Most of them are aimed: a moment is waited for at which edits are under way.
            self._wait_until_sending()
        tokens = self._sending()
        getattr(self, f"_kill_{victim}")()
        self.report.kills[victim] += 1
        self.report.restarts += 1
        self.report.kills_while_sending += bool(tokens)
        # Those who live store the outcome of what they had in their hands; the others' claims stand as they were.
        time.sleep(10 * LATENCY / 1000)
        self.report.kills_that_left_edits_in_the_middle += bool(tokens & self._sending())

    def _wait_until_sending(self) -> None:
        deadline = time.monotonic() + 2
        while len(self._sending()) < 2 and time.monotonic() < deadline:
            time.sleep(0.005)

    def _sending(self) -> set[Any]:
        now = time.time()
        claims = Edit.objects.filter(status=Edit.Status.SENDING).values_list("claim_token", "claimed_until")
        # The claims of those who were killed before run out by and by: only fresh ones count.
        return {token for token, until in claims if until and until.timestamp() - now > self.longest_claim - 1}

    @property
    def longest_claim(self) -> float:
        return 2 * conf.connection("default").timeout + claims.SLACK.total_seconds()

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

    # --- the judgement

    def _judge(self) -> None:
        report, events = self.report, self.scene.events
        report.edits_recorded = Edit.objects.count()
        report.edits_recorded_over_rest = Edit.objects.filter(door=Edit.Door.API).count()
        report.outcomes = dict(Counter(Edit.objects.values_list("status", flat=True)))
        report.posts = len(judge.writes(events))
        report.writers_pairs = sum(event.what == "other" for event in events)
        report.writers_pairs_lost_in_the_gap = len(judge.lost_in_gaps(events))
        report.no_edit_without_an_outcome = Edit.objects.exclude(status__in=ENDED).count()
        told = Edit.objects.filter(status__in=ENDED, finished_at__isnull=False).count()
        report.no_difference_between_planned_and_told = report.edits_recorded - told
        report.no_post_without_a_look_in_between = len(judge.repeated(events))
        report.no_writers_pair_lost_outside_the_gap = len(judge.lost(events))
        report.no_run_whose_edits_differ_from_upstream = len(
            {*self.scene.misplaced(), *self.scene.differing(apart_from=KEY)}
        )
        self.scene.wait_for(self.scene.begin_reading_all())
        report.no_run_whose_mirror_differs_from_upstream = len(self.scene.differing())
