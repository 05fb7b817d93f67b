"""The counts at the end of a load test."""

from collections import Counter
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any

from loadtests import log_checks
from loadtests.environment import Environment
from runsadmin.models import Edit
from runsadmin.models.edit import ENDED
from tests.faults.writer import KEY


@dataclass
class Counts:
    """Counts that are printed at the end. Those that begin with `no_` must be 0."""

    @property
    def is_clean(self) -> bool:
        return not any(value for name, value in vars(self).items() if name.startswith("no_"))

    def __str__(self) -> str:
        """One count per line. Those that must be 0 are at the end."""
        counts = sorted(vars(self).items(), key=lambda count: count[0].startswith("no_"))
        return "\n".join(f"{name.replace('_', ' '):44} {_shown(value)}" for name, value in counts)


@dataclass
class Report(Counts):
    """The counts of a load test that records edits."""

    edits_recorded: int = 0
    edits_recorded_over_rest: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    restarts: int = 0
    posts: int = 0
    # From receiving the fetch to sending the POST.
    race_window_p50_in_ms: float = 0.0
    race_window_p99_in_ms: float = 0.0
    outside_pairs: int = 0
    outside_pairs_lost_in_the_race_window: int = 0
    seconds: float = 0.0
    no_edit_without_an_outcome: int = 0
    no_ended_edit_without_an_end_time: int = 0
    no_post_without_a_fetch_before_it: int = 0
    no_run_whose_edits_differ_from_upstream: int = 0
    no_run_whose_mirror_differs_from_upstream: int = 0
    no_outside_pair_lost_outside_the_race_window: int = 0

    def count_results(self, environment: Environment) -> None:
        """Counts the results when every edit should have ended. Then runs a full sync, to compare the mirror."""
        events, edits = environment.events, Edit.objects.all()
        self.edits_recorded = edits.count()
        self.edits_recorded_over_rest = edits.filter(source=Edit.Source.API).count()
        self.outcomes = Counter(edits.values_list("status", flat=True))
        self.posts = len(log_checks.writes(events))
        windows = edits.filter(race_window__isnull=False).values_list("race_window", flat=True)
        percentiles = quantiles((window.total_seconds() * 1000 for window in windows if window is not None), n=100)
        self.race_window_p50_in_ms, self.race_window_p99_in_ms = percentiles[49], percentiles[98]
        self.outside_pairs = sum(event.kind == "outside" for event in events)
        self.outside_pairs_lost_in_the_race_window = len(log_checks.lost_in_race_window(events))
        self.no_edit_without_an_outcome = edits.exclude(status__in=ENDED).count()
        ended = edits.filter(status__in=ENDED, finished_at__isnull=False).count()
        self.no_ended_edit_without_an_end_time = self.edits_recorded - ended
        self.no_post_without_a_fetch_before_it = len(log_checks.repeated(events))
        self.no_outside_pair_lost_outside_the_race_window = len(log_checks.lost(events))
        self.no_run_whose_edits_differ_from_upstream = len(
            {*environment.wrong_values(), *environment.differences(ignoring=KEY)}
        )
        environment.wait_for_sync(environment.start_full_sync())
        self.no_run_whose_mirror_differs_from_upstream = len(environment.differences())


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Counter):
        return f"{value.total()} ({', '.join(f'{name} {count}' for name, count in sorted(value.items()))})"
    if isinstance(value, dict):
        return "".join(f"\n    {name:40} {each}" for name, each in sorted(value.items()))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
