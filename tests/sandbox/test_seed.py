from collections import Counter
from typing import Any

import pytest

from tests.sandbox_client import Sandbox, make_run

NOW = 1_790_000_000
ACTIVE = {"queued", "in_progress", "requires_action", "cancelling"}
TIMES = {"started_at", "completed_at", "failed_at", "cancelled_at", "expires_at"}

# The times that a run of each status has.
HAS = {
    "queued": {"expires_at"},
    "in_progress": {"expires_at", "started_at"},
    "requires_action": {"expires_at", "started_at"},
    "cancelling": {"expires_at", "started_at"},
    "completed": {"started_at", "completed_at"},
    "incomplete": {"started_at", "completed_at"},
    "failed": {"started_at", "failed_at"},
    "cancelled": {"cancelled_at"},
    "expired": {"expires_at", "started_at"},
}


@pytest.fixture(scope="module")
def runs(process: Sandbox) -> list[dict[str, Any]]:
    process.reset()
    assert process.seed(now=NOW) == {"threads": 40, "runs": 2000}
    return list(process.runs().values())


def test_the_same_seed_gives_the_same_team(sandbox: Sandbox, runs: list[dict[str, Any]]) -> None:
    sandbox.seed(now=NOW)
    assert list(sandbox.runs().values()) == runs
    sandbox.reset()
    sandbox.seed(now=NOW, seed=2)
    assert not sandbox.runs().keys() & {run["id"] for run in runs}


def test_seeding_again_leaves_what_is_there(sandbox: Sandbox) -> None:
    sandbox.seed(threads=3, runs=50, now=NOW)
    first, second, *_ = sandbox.runs()
    sandbox.set_metadata(first, {"mine": "yes"})
    sandbox.delete_run(second)
    assert sandbox.seed(threads=3, runs=50, now=NOW + 5000) == {"threads": 0, "runs": 1}
    assert sandbox.metadata(first) == {"mine": "yes"}


def test_there_are_forty_threads_and_one_has_very_many_runs(runs: list[dict[str, Any]]) -> None:
    of_a_thread = Counter(run["thread_id"] for run in runs)
    assert len(of_a_thread) == 40
    assert of_a_thread.most_common(1)[0][1] > 250


def test_every_run_has_every_field(runs: list[dict[str, Any]]) -> None:
    fields = set(make_run())
    assert all(fields - set(run) <= {"parallel_tool_calls"} for run in runs)
    assert all(set(run) - fields <= {"tool_resources"} for run in runs)
    assert any("tool_resources" in run for run in runs)
    assert all(len(run["id"]) == 28 and len(run["thread_id"]) == 31 and len(run["assistant_id"]) == 29 for run in runs)


def test_every_status_is_there_and_its_times_make_sense(runs: list[dict[str, Any]]) -> None:
    assert {run["status"] for run in runs} == HAS.keys()
    for run in runs:
        times = {name for name in TIMES if run[name] is not None}
        optional = {"started_at"} if run["status"] == "cancelled" else set()
        assert times - optional == HAS[run["status"]] - optional
        start = run["started_at"] or run["created_at"]
        assert NOW - 160 * 86400 < run["created_at"] <= start <= NOW
        end = run["completed_at"] or run["failed_at"] or run["cancelled_at"]
        assert end is None or start < end <= NOW
        assert (run["usage"] is None) == (run["status"] in ACTIVE)
        assert (run["last_error"] is None) == (run["status"] != "failed")
        assert (run["incomplete_details"] is None) == (run["status"] != "incomplete")
        assert (run["required_action"] is None) == (run["status"] != "requires_action")
        if run["status"] in ACTIVE:
            assert run["expires_at"] > NOW


def test_runs_differ_as_a_teams_do(runs: list[dict[str, Any]]) -> None:
    assert {"gpt-4o", "gpt-4o-mini", "gpt-4.1", "o3-mini"} <= {run["model"] for run in runs}
    assert len({run["assistant_id"] for run in runs}) >= 5
    assert len({run["last_error"]["code"] for run in runs if run["last_error"]}) >= 4
    assert {tool["type"] for run in runs for tool in run["tools"]} == {"function", "code_interpreter", "file_search"}
    assert len({run["created_at"] // 86400 // 30 for run in runs}) >= 4


def test_metadata_is_of_every_kind_and_within_the_limits(runs: list[dict[str, Any]]) -> None:
    maps = [run["metadata"] for run in runs]
    assert all(len(pairs) <= 16 for pairs in maps)
    assert all(len(key) <= 64 and len(value) <= 512 for pairs in maps for key, value in pairs.items())
    assert 200 < sum(pairs == {} for pairs in maps) < 600
    assert any(len(pairs) == 16 for pairs in maps)
    keys, values = {key for pairs in maps for key in pairs}, {value for pairs in maps for value in pairs.values()}
    assert {"team", "ticket", "env", "customer", "reviewed_by"} <= keys
    assert max(len(key) for key in keys) == 64
    assert max(len(value) for value in values) == 512
    for odd in ('"', ",", "🚀", "ط", "<script>", "=cmd(", "\n", "'"):
        assert any(odd in value for value in values), odd


def test_small_seeds_work(sandbox: Sandbox) -> None:
    for threads, runs in ((0, 0), (1, 1), (1, 30), (5, 3)):
        sandbox.reset()
        assert sandbox.seed(threads=threads, runs=runs) == {"threads": threads, "runs": runs}
    with pytest.raises(ValueError, match="integers"):
        sandbox.seed(threads=-1)
