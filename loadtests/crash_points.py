"""Crashes a process under test at a certain step: the services log each step, and a log handler sends a signal.

CRASH_AT names the step, CRASH_SKIP how many times the process passes it unharmed (default: 0), CRASH_WITH the signal
(default: SIGKILL), and CRASH_PID the process that gets the signal (default: this one). The signal is sent only once.
"""

import logging
import os
import signal
from dataclasses import dataclass

# The loggers that log the steps.
OBSERVED = ("runsadmin.services.edits", "runsadmin.services.syncs")
STEPS = ("recorded", "claimed", "fetched", "intended", "responded", "stored")
PUSHING = STEPS[1:]  # The steps of a worker, which records nothing.
RECONCILING = ("reconciling", "fetched again")
SYNCING = ("page received", "page taken", "pages stored")


@dataclass(frozen=True)
class Crash:
    """Which process to signal at which step. `variables` are for the process that reaches the step."""

    at: str
    with_signal: signal.Signals = signal.SIGKILL
    target_pid: int | None = None
    skip: int = 0  # How many times the process passes the step unharmed.

    @property
    def variables(self) -> dict[str, str]:
        target_pid = {} if self.target_pid is None else {"CRASH_PID": str(self.target_pid)}
        return {
            "CRASH_AT": self.at, "CRASH_WITH": self.with_signal.name, "CRASH_SKIP": str(self.skip), **target_pid
        }  # fmt: skip


class CrashHandler(logging.Handler):
    done = False
    reached = 0

    def emit(self, record: logging.LogRecord) -> None:
        if self.done or getattr(record, "step", None) != os.environ.get("CRASH_AT", "nowhere"):
            return
        self.reached += 1
        if self.reached > int(os.environ.get("CRASH_SKIP", "0")):
            self.done = True
            os.kill(
                int(os.environ.get("CRASH_PID", os.getpid())), signal.Signals[os.environ.get("CRASH_WITH", "SIGKILL")]
            )
