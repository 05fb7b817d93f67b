"""Times REST reads, first while nothing else happens, and then while a bulk edit is applied."""

import time
from dataclasses import dataclass
from statistics import quantiles

from loadtests.bulk_load import BulkLoad, BulkReport, outcomes_of
from loadtests.rest_clients import Read, Reader, reading

# How many times as long as before a read may take during the bulk edit.
MAX_RATIO = 2.0


@dataclass
class ReadsReport(BulkReport):
    reads_before: int = 0
    reads_during: int = 0
    p50_before_in_ms: float = 0.0
    p95_before_in_ms: float = 0.0
    p50_during_in_ms: float = 0.0
    p95_during_in_ms: float = 0.0
    slowest_during_in_ms: float = 0.0
    p95_ratio: float = 0.0
    p95_ratios: str = ""
    no_read_that_failed: int = 0
    no_p95_that_is_more_than_twice_as_long: int = 0


class ReadsLoad(BulkLoad):
    def run_with_reads(self, reads: int, *, pause: float, max_ratio: float = MAX_RATIO) -> ReadsReport:
        report, began = ReadsReport(), time.monotonic()
        bulk_edit = self._plan(report)
        paths = (
            "runs/?page_size=100",
            f"runs/{self.ids[0]}/",
            "runs/?q=metadata.team:blue&page_size=20",
            f"edits/?bulk_edit={bulk_edit.pk}",
        )
        reader = Reader(self.environment.web(processes=2), paths, self.environment.token())
        for _ in range(20):  # Warms up both processes of the server.
            reader.read_all()
        before = [read for _ in range(reads // len(paths)) for read in reader.read_all(pause)]
        with reading(reader, pause) as during:
            report.seconds_to_apply = self._complete(bulk_edit, self._apply(bulk_edit))
        report.outcomes = outcomes_of(bulk_edit)
        _compare(report, before, during, max_ratio)
        report.seconds = time.monotonic() - began
        return report


def _compare(report: ReadsReport, before: list[Read], during: list[Read], max_ratio: float) -> None:
    report.reads_before, report.reads_during = len(before), len(during)
    report.p50_before_in_ms, report.p95_before_in_ms = _percentiles(before)
    report.p50_during_in_ms, report.p95_during_in_ms = _percentiles(during)
    report.slowest_during_in_ms = 1000 * max(read.seconds for read in during)
    report.p95_ratio = report.p95_during_in_ms / report.p95_before_in_ms
    paths = sorted({read.path for read in before})
    report.p95_ratios = ", ".join(f"{path} {_ratio(path, before, during):.1f}" for path in paths)
    report.no_read_that_failed = sum(read.status != 200 for read in (*before, *during))
    report.no_p95_that_is_more_than_twice_as_long = int(report.p95_ratio > max_ratio)


def _ratio(path: str, before: list[Read], during: list[Read]) -> float:
    quiet, busy = ([read for read in reads if read.path == path] for reads in (before, during))
    return _percentiles(busy)[1] / _percentiles(quiet)[1]


def _percentiles(reads: list[Read]) -> tuple[float, float]:
    """The 50th and 95th percentile in milliseconds."""
    percentiles = quantiles((1000 * read.seconds for read in reads), n=20, method="inclusive")
    return percentiles[9], percentiles[18]
