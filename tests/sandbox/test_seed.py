import pytest

from tests.sandbox_client import Sandbox

NOW = 1_790_000_000


def test_seeding_again_changes_nothing(sandbox: Sandbox) -> None:
    sandbox.seed(threads=3, runs=50, now=NOW)
    first, second, *_ = sandbox.runs()
    sandbox.set_metadata(first, {"mine": "yes"})
    sandbox.delete_run(second)
    assert sandbox.seed(threads=3, runs=50, now=NOW + 5000) == {"threads": 0, "runs": 1}
    assert sandbox.metadata(first) == {"mine": "yes"}


def test_small_seeds_work(sandbox: Sandbox) -> None:
    for threads, runs in ((0, 0), (1, 1), (1, 30), (5, 3)):
        sandbox.reset()
        assert sandbox.seed(threads=threads, runs=runs) == {"threads": threads, "runs": runs}
    with pytest.raises(ValueError, match="integers"):
        sandbox.seed(threads=-1)
