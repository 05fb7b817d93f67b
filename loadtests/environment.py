"""The environment of a load test: database, recorded sandbox, processes, runs and short timeouts."""

import itertools
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlencode

from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from loadtests import log_checks
from loadtests.crash_points import Crash
from loadtests.processes import Process, RecordedSandbox, Web, Worker, free_port, is_free
from runsadmin.metadata import MetadataPatch
from runsadmin.models import Edit, Run, Sync
from runsadmin.models.edit import UNSETTLED
from runsadmin.models.sync import UNFINISHED
from runsadmin.services import edits, syncs, threads, tokens
from tests.faults.writer import KEY
from tests.sandbox_client import make_run
from tests.waiting import until

SHORT_TIMEOUTS = {
    "RUNSADMIN_UPSTREAM_CONNECT_TIMEOUT": "0.5",
    "RUNSADMIN_UPSTREAM_READ_TIMEOUT": "1",
    "RUNSADMIN_SETTLING_TIME": "1",
    "RUNSADMIN_PUSH_WAIT": "1",
}

# Keeps the default timeouts. Syncs start only on request, because their fetches would count as fetches of edits.
DEFAULT_TIMEOUTS = {"RUNSADMIN_SYNC_EVERY": "86400"}


def timeouts(overrides: Mapping[str, str] = SHORT_TIMEOUTS) -> dict[str, float]:
    """Returns these timeouts as options of a connection, for this process."""
    prefix = "RUNSADMIN_UPSTREAM_"
    return {name.removeprefix(prefix): float(value) for name, value in overrides.items() if name.startswith(prefix)}


@dataclass
class Environment:
    database_url: str
    sandbox: RecordedSandbox
    folder: Path
    alice: User
    overrides: Mapping[str, str] = field(default_factory=lambda: SHORT_TIMEOUTS)
    processes: list[Process] = field(default_factory=list)
    _names: Iterator[int] = field(default_factory=itertools.count)

    @property
    def variables(self) -> dict[str, str]:
        return {
            **self.overrides,
            "DJANGO_SETTINGS_MODULE": "loadtests.settings",
            "DATABASE_URL": self.database_url,
            "RUNSADMIN_UPSTREAM_URL": self.sandbox.url,
            "RUNSADMIN_UPSTREAM_API_KEY": self.sandbox.key,
            "RUNSADMIN_API_RATE_FILE": str(self.folder / "api-rate.sqlite3"),
            "LOG_LEVEL": "INFO",
        }

    # --- the processes

    def worker(self, crash: Crash | None = None, *, lanes: int = 1, fast: bool = True) -> Worker:
        log = self.log("worker")
        return self._started(Worker(variables=self.variables, log=log, crash=crash, lanes=lanes, fast=fast))

    def web(self, crash: Crash | None = None, *, port: int = 0, processes: int = 1, threads: int = 8) -> Web:
        """Starts a web server. Returns when it responds."""
        port = port or free_port()
        until(lambda: is_free(port))  # A killed process keeps its port until the system has ended it.
        size = {"processes": processes, "threads": threads}
        web = self._started(Web(variables=self.variables, log=self.log("web"), crash=crash, port=port, **size))
        until(web.responds)
        return web

    def _started[P: Process](self, process: P) -> P:
        self.processes.append(process)
        return process

    def log(self, name: str) -> Path:
        return self.folder / f"{name}-{next(self._names)}.log"

    def end(self) -> None:
        for process in self.processes:
            process.kill()

    # --- the data

    def make_runs(self, count: int, *, per_thread: int = 10) -> list[Run]:
        """Creates runs upstream and in the mirror."""
        runs = [
            make_run(
                id=f"run_{number:05d}", thread_id=f"thread_{number // per_thread:05d}",
                metadata={"team": "blue", "ticket": f"OPS-{number}", KEY: "0"},
            )
            for number in range(count)
        ]  # fmt: skip
        self.sandbox.put_runs(runs)
        threads.track(connection="default", thread_ids={run["thread_id"] for run in runs}, actor=self.alice)
        syncs.run(self.start_full_sync(), until=time.monotonic() + 600)
        return list(Run.objects.select_related("thread").order_by("upstream_id"))

    def start_full_sync(self) -> Sync:
        """Queues a full sync of all threads, for a worker."""
        return syncs.start(connection="default", kind=Sync.Kind.FULL, actor=self.alice)

    def wait_for_sync(self, sync: Sync) -> None:
        until(lambda: not Sync.objects.filter(pk=sync.pk, status__in=UNFINISHED).exists(), seconds=600)

    def record(self, run: Run, value: str, *, key: str = "team") -> Edit:
        """Records an edit that is due at once, as if the process that recorded it had died."""
        edit = edits.record(
            run=run, patch=MetadataPatch({key: value}), actor=self.alice, source=Edit.Source.COMMAND, reason="a crash"
        )
        Edit.objects.filter(pk=edit.pk).update(next_attempt_at=timezone.now())
        return edit

    def token(self) -> str:
        return tokens.create(user=self.alice, expires_in=None)

    # --- recovery

    def expire_claims(self) -> None:
        """Expires all claims at once, after a crash. (`loadtests.storm` waits until they expire instead.)"""
        Edit.objects.filter(claimed_until__isnull=False).update(claimed_until=timezone.now())
        Sync.objects.filter(claimed_until__isnull=False).update(claimed_until=timezone.now())

    def end_pauses(self) -> None:
        """Makes waiting edits due at once: pauses between attempts are the longest part of a recovery."""
        Edit.objects.filter(status__in=UNSETTLED).update(next_attempt_at=timezone.now())

    def wait_for_outcomes(self, *, seconds: float = 30) -> None:
        unsettled = Edit.objects.filter(status__in=UNSETTLED)
        try:
            until(lambda: not unsettled.exists(), seconds=seconds)
        except TimeoutError:
            fields = ("pk", "status", "wait_reason", "attempts", "deaths", "claimed_until", "next_attempt_at", "detail")
            print(timezone.now(), *unsettled.order_by("pk").values_list(*fields)[:20], sep="\n")
            raise
        until(lambda: not Run.objects.filter(needs_refresh_since__isnull=False).exists(), seconds=seconds)

    # --- checks

    @property
    def events(self) -> list[log_checks.Event]:
        return log_checks.read(self.sandbox.record)

    def differences(self, *, ignoring: str | None = None) -> list[str]:
        """Returns the runs whose metadata differs between the mirror and upstream, ignoring one key."""
        upstream = self.sandbox.runs()
        return [
            run.upstream_id
            for run in Run.objects.only("upstream_id", "raw").iterator()
            if _without(run.metadata, ignoring) != _without(upstream[run.upstream_id]["metadata"], ignoring)
        ]

    def wrong_values(self) -> list[str]:
        """Returns the runs whose `team` upstream is not the value of their last applied edit."""
        upstream = self.sandbox.runs()
        applied = Edit.objects.filter(status=Edit.Status.APPLIED).select_related("run").defer("run__raw").order_by("pk")
        last = {edit.run.upstream_id: edit.patch.set["team"] for edit in applied.iterator()}
        return [run_id for run_id, team in last.items() if upstream[run_id]["metadata"]["team"] != team]


def _without(metadata: Mapping[str, object], key: str | None) -> dict[str, object]:
    return {name: value for name, value in metadata.items() if name != key}


def database_url() -> str:
    """Returns the URL of this process's database for another process."""
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    query = urlencode(connection.settings_dict["OPTIONS"])
    return f"postgresql://{connection.settings_dict['USER']}@/{quote(name)}?{query}"
