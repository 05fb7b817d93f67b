"""The benchmark's data is deterministic and skewed, and its ingest and find parts run."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from bench import data, ingest, queries
from bench.data import Dataset

ROOT = Path(__file__).resolve().parent.parent
RUNS = 40_000


def all_runs(dataset: Dataset) -> list[dict[str, Any]]:
    return [run for thread in dataset.threads() for page in thread.pages for run in orjson.loads(page)["data"]]


@pytest.fixture(scope="module")
def generated() -> list[dict[str, Any]]:
    return all_runs(Dataset(RUNS))


@pytest.fixture(scope="module")
def pairs(generated: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
    return Counter(pair for run in generated for pair in run["metadata"].items())


def test_data_is_the_same_in_every_process() -> None:
    program = (
        "import hashlib; from bench.data import Dataset;"
        " print(hashlib.md5(b''.join(page for thread in Dataset(2000).threads() for page in thread.pages)).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(digests) == 1


def test_data_has_realistic_runs(generated: list[dict[str, Any]]) -> None:
    assert len({run["id"] for run in generated}) == RUNS
    assert 1400 < sum(len(orjson.dumps(run)) for run in generated) / RUNS < 1600
    assert 5.6 < sum(len(run["metadata"]) for run in generated) / RUNS < 5.9
    assert len({run["assistant_id"] for run in generated}) == data.ASSISTANTS
    assert len({(run["assistant_id"], run["instructions"]) for run in generated}) == data.ASSISTANTS


def test_tags_are_skewed(generated: list[dict[str, Any]], pairs: Counter[tuple[str, str]]) -> None:
    assert pairs["env", "prod"] / RUNS == pytest.approx(2 / 3, abs=0.01)
    for rare in (("env", "canary"), ("review", "pending"), ("review", "escalated")):
        assert pairs[rare] / RUNS == pytest.approx(0.006, abs=0.0015)
    assert {count for (key, _), count in pairs.items() if key == "incident"} == {10}
    assert sum(key == "customer" for key, _ in pairs) == data.CUSTOMERS
    assert min(pairs["region", "eu"], pairs["cell", "us-1"]) > 0.2 * RUNS
    assert not any(run["metadata"].get("region") == "eu" and "cell" in run["metadata"] for run in generated)


def test_one_in_a_hundred_runs_changes() -> None:
    before, after = (all_runs(Dataset(2000, changed=changed)) for changed in (False, True))
    assert sum(was != now for was, now in zip(before, after, strict=True)) == 20
    assert [run["id"] for run in before] == [run["id"] for run in after]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared, so that the find part uses the database that the ingest part has filled."""
    return tmp_path_factory.mktemp("bench")


def bench(folder: Path, *words: str) -> Any:
    """Runs a part of the benchmark with 2,000 runs on SQLite. Returns the part of its JSON for that size."""
    command = [sys.executable, "-m", "bench", *words, "--database", "SQLite", "--runs", "2000", "--folder", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True)
    return json.loads((folder / f"{words[0]}.json").read_text())["SQLite"]["2000"]


def test_ingest_part_measures_every_pass(folder: Path) -> None:
    results = bench(folder, "ingest", "--peer-runs", "50", "--rounds", "1")

    for passes in (*results["compared"].values(), results["whole"]):
        assert all(passes[name]["cpu_us"] > 0 for name in ingest.PASSES)
    assert results["whole"]["first load"]["runs"] == 2000
    assert results["times"]["update_or_create"]["unchanged"]["cpu_us"] > 1
    assert results["whole"]["sizes"]["runsadmin_run"] > 2000 * 1500 / 4
    assert results["whole"]["peak_memory_mb"] < 500


def test_find_part_measures_every_shape(folder: Path) -> None:
    results = bench(folder, "find", "--warm", "2", "--random-queries", "20", "--requests", "4")

    shapes = {shape["name"]: shape for shape in results["shapes"]}
    assert len(shapes) == len(queries.SHAPES)
    assert shapes["value in ten runs"]["rows"] == 10
    assert all("error" in shape or shape["p95_ms"] > 0 for shape in results["shapes"])
    assert all(page["status"] == 200 for page in results["pages"]["plain"].values() if isinstance(page, dict))
    assert all(rate > 0 for rate in results["http"]["requests_per_second"].values())
    assert results["generated"]["searches"] == 20
