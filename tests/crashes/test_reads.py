"""REST reads during a small bulk edit. The large version is `python -m loadtests.reads`."""

from loadtests.environment import Environment
from loadtests.reads_load import ReadsLoad
from runsadmin.models import EditStatus


def test_reads_succeed_during_a_bulk_edit(environment: Environment) -> None:
    # The ratio is large because other work on the machine may slow reads down more than the bulk edit does.
    load = ReadsLoad(environment, edits=500, per_thread=50, workers=1, fast=True)
    report = load.run_with_reads(40, pause=0.01, max_ratio=20)
    assert report.is_clean, f"\n{report}"
    assert report.outcomes == {EditStatus.APPLIED: 500}, f"\n{report}"
    assert report.reads_during >= 10, f"\n{report}"
