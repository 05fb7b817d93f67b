"""Every error of this app, as a tree.

RunsAdminError
├── InvalidMetadata         the pairs break a limit: mend them and try again
├── InvalidSearch           a search that is not understood: it says where, and what was expected
├── InvalidSelection        the runs that were chosen cannot be edited together: it says why
├── InvalidList             a list of ids that cannot be read: it says where, and what to do
├── InvalidId               an id that no upstream could have given: mend it
├── NotAllowed              the account may not do this: ask for the permission
├── UnknownConnection       no such connection is configured
├── IllegalChange           the row is no longer in a state that allows this
├── StaleVersion            the run was written since it was read: read it again
├── KeyReused               an Idempotency-Key that was used for another request
├── KeyInUse                the same request is being recorded just now: ask again
└── UpstreamError           what one call to an upstream meant (see upstream/faults.py)
    ├── NotSent             nothing was changed upstream: try again later
    │   ├── RunActive       … once the run has ended
    │   ├── TooLarge        … less at a time, if it can be asked for so: a response was larger than allowed
    │   └── Busy            … when the connection has a place: it was not even asked
    ├── OutcomeUnknown      it may have been kept: look before sending again
    ├── Rejected            refused for good: stop
    ├── NotFound            404: look whether it is the run or everything
    ├── Forbidden           403: nothing was changed; it may concern one map, one thread or the whole connection
    └── Held                nothing works on this connection until a person mends its settings: hold it
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runsadmin.text import clean


class RunsAdminError(Exception):
    """The root of everything that this app raises on purpose."""


@dataclass(frozen=True)
class MetadataError:
    """One thing that is wrong with a map of metadata. `key` is the pair it is about, None for the map."""

    key: str | None
    code: str
    message: str


class InvalidMetadata(RunsAdminError):
    def __init__(self, problems: Sequence[MetadataError]) -> None:
        super().__init__(" ".join(problem.message for problem in problems))
        self.problems = tuple(problems)


class InvalidSearch(RunsAdminError):
    pass


class InvalidSelection(RunsAdminError):
    """`left_out` are the ids that were named and cannot be chosen, each with why."""

    def __init__(self, message: str, left_out: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.left_out = tuple(left_out)


class InvalidList(RunsAdminError):
    pass


class InvalidId(RunsAdminError):
    pass


class NotAllowed(RunsAdminError):
    pass


class UnknownConnection(RunsAdminError):
    pass


class InvalidTransition(RunsAdminError):
    pass


class StaleVersion(RunsAdminError):
    pass


class IdempotencyKeyReused(RunsAdminError):
    pass


class IdempotencyKeyInUse(RunsAdminError):
    pass


class UpstreamError(RunsAdminError):
    """What one call meant. `http_status` and `request_id` are None and "" when no answer came.

    The server's words may hold anything: what can be neither stored nor shown becomes U+FFFD here, once for all.
    `retry_after` is how many seconds the server asked us to wait, None when it did not say.
    `slow_down` is true when the server asked the whole connection to go slower (429, 503).
    `has_response` is false when there was no response, or none that was whole.
    `is_outage` is true when this may be so of the whole server: no response, or a proxy that has no server behind it.
    `redirect` is where a redirect leads, "" when the response is none. It concerns the connection, whatever the error.
    """

    def __init__(
        self,
        message: str,
        *,
        http_status: int | None = None,
        request_id: str = "",
        retry_after: float | None = None,
        redirect: str = "",
        has_response: bool = True,
    ) -> None:
        super().__init__(clean(message))
        self.http_status = http_status
        self.request_id = clean(request_id)
        self.retry_after = retry_after
        self.redirect = redirect
        self.has_response = has_response

    @property
    def slow_down(self) -> bool:
        return self.http_status in (429, 503)

    @property
    def is_outage(self) -> bool:
        if self.http_status == 503:  # With a time it only asks for patience.
            return self.retry_after is None
        return not self.has_response or self.http_status in (502, 504)


class NotSent(UpstreamError):
    pass


class RunActive(NotSent):
    pass


class NoSlot(NotSent):
    pass


class TooLarge(NotSent):
    """`first_id` is the id of the first item, where a list was asked for and its beginning shows it."""

    def __init__(self, message: str, *, first_id: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        self.first_id = first_id


class OutcomeUnknown(UpstreamError):
    pass


class Rejected(UpstreamError):
    pass


class NotFound(UpstreamError):
    pass


class Forbidden(UpstreamError):
    pass


class ConnectionHeld(UpstreamError):
    pass
