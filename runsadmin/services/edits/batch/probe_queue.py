"""The edits that wait until it is known how far an error reaches, and the latest results of probes."""

import time

from runsadmin.errors import NotFound, UpstreamError
from runsadmin.services.edits.claims import Claim
from runsadmin.services.probes import Reach

# The result of a probe is reused for this many seconds.
REACH_LASTS = 5.0
# The key of probes that check whether the server responds at all. All other keys are primary keys of threads.
SERVER = 0


def key_of(claim: Claim, error: UpstreamError) -> int:
    """A 404 may concern the thread; an outage concerns the server. Edits with the same key share one probe."""
    return claim.edit.run.thread_id if isinstance(error, NotFound) else SERVER


class ProbeQueue:
    def __init__(self) -> None:
        self._waiting: dict[int, list[tuple[Claim, UpstreamError]]] = {}
        self._known: dict[int, tuple[float, Reach]] = {}

    def recent(self, key: int) -> Reach | None:
        """The result of a recent probe, if it was conclusive."""
        at, reach = self._known.get(key, (-REACH_LASTS, None))
        return reach if reach is not None and reach.error is None and time.monotonic() - at < REACH_LASTS else None

    def is_waiting(self, key: int) -> bool:
        return bool(self._waiting.get(key))

    def wait(self, key: int, claims: list[Claim], error: UpstreamError) -> None:
        self._waiting.setdefault(key, []).extend((claim, error) for claim in claims)

    def finish(self, key: int, reach: Reach) -> list[tuple[Claim, UpstreamError]]:
        """Stores the result of a probe. Returns the claims that waited for it, each with its error."""
        self._known[key] = (time.monotonic(), reach)
        return self._waiting.pop(key)

    def drop(self, key: int) -> list[Claim]:
        """Returns the claims that waited for a probe that is not sent."""
        return [claim for claim, _ in self._waiting.pop(key)]
