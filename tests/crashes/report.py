"""What is counted after many edits under trouble, whatever the trouble was."""

from collections import Counter
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any

from runsadmin.models import Edit
from runsadmin.models.edit import ENDED
from tests.crashes import judge
from tests.crashes.scene import Scene
from tests.faults.writer import KEY


@dataclass
class Report:
    """What is printed at the end. What begins with `no_` must be 0."""

    edits_recorded: int = 0
    edits_recorded_over_rest: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    kills: Counter[str] = field(default_factory=Counter)
    restarts: int = 0
    posts: int = 0
    # From the look's answer to the beginning of the POST.
    gap_p50_in_ms: float = 0.0
    gap_p99_in_ms: float = 0.0
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
        """What must be 0 comes last."""
        counts = sorted(vars(self).items(), key=lambda count: count[0].startswith("no_"))
        return "\n".join(f"{name.replace('_', ' '):44} {_shown(value)}" for name, value in counts)

    def judge(self, scene: Scene) -> None:
        """Counts what is there when every edit should have ended. Reads everything once more, for the mirror."""
        events, edits = scene.events, Edit.objects.all()
        self.edits_recorded = edits.count()
        self.edits_recorded_over_rest = edits.filter(source=Edit.Source.API).count()
        self.outcomes = dict(Counter(edits.values_list("status", flat=True)))
        self.posts = len(judge.writes(events))
        gaps = edits.filter(race_window__isnull=False).values_list("race_window", flat=True)
        percentiles = quantiles((gap.total_seconds() * 1000 for gap in gaps if gap is not None), n=100)
        self.gap_p50_in_ms, self.gap_p99_in_ms = percentiles[49], percentiles[98]
        self.writers_pairs = sum(event.what == "other" for event in events)
        self.writers_pairs_lost_in_the_gap = len(judge.lost_in_gaps(events))
        self.no_edit_without_an_outcome = edits.exclude(status__in=ENDED).count()
        told = edits.filter(status__in=ENDED, finished_at__isnull=False).count()
        self.no_difference_between_planned_and_told = self.edits_recorded - told
        self.no_post_without_a_look_in_between = len(judge.repeated(events))
        self.no_writers_pair_lost_outside_the_gap = len(judge.lost(events))
        self.no_run_whose_edits_differ_from_upstream = len({*scene.misplaced(), *scene.differing(apart_from=KEY)})
        scene.wait_for(scene.begin_reading_all())
        self.no_run_whose_mirror_differs_from_upstream = len(scene.differing())


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict):
        return f"{sum(value.values())} ({', '.join(f'{name} {count}' for name, count in sorted(value.items()))})"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
