"""Where a process under test stops: the services tell each step in their log, and this listens.

CRASH_AT names the step, CRASH_WITH the signal (SIGKILL unless told), CRASH_WHOM the process that gets it (this one
unless told). It happens once.
"""

import logging
import os
import signal
from dataclasses import dataclass

# The loggers that tell the steps.
OBSERVED = ("runsadmin.services.edits", "runsadmin.services.syncs")
STEPS = ("recorded", "claimed", "fetched", "intended", "responded", "stored")
PUSHING = STEPS[1:]  # What a worker comes by: it finds what others have recorded.
RECONCILING = ("reconciling", "fetched again")
SYNCING = ("page received", "page stored")


@dataclass(frozen=True)
class Crash:
    """Whom to stop at which step: as the environment of the process that comes by there."""

    at: str
    with_signal: signal.Signals = signal.SIGKILL
    whom: int | None = None

    @property
    def environment(self) -> dict[str, str]:
        whom = {} if self.whom is None else {"CRASH_WHOM": str(self.whom)}
        return {"CRASH_AT": self.at, "CRASH_WITH": self.with_signal.name, **whom}


class Seam(logging.Handler):
    done = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self.done and getattr(record, "step", None) == os.environ.get("CRASH_AT", "nowhere"):
            self.done = True
            os.kill(
                int(os.environ.get("CRASH_WHOM", os.getpid())), signal.Signals[os.environ.get("CRASH_WITH", "SIGKILL")]
            )
