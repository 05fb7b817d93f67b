"""All exceptions of this app, as a tree.

RunsAdminError
├── InvalidMetadata         the pairs exceed a limit: correct them
├── InvalidSearch           the search is invalid: the message says where, and what was expected
├── InvalidSelection        the selected runs cannot be edited together: the message says why
├── InvalidList             a list of ids is invalid: the message says where, and what to do
├── InvalidId               no upstream could have issued this id: correct it
├── NotAllowed              the account lacks a permission: the message says which
├── UnknownConnection       no such connection is configured
├── InvalidTransition       the row is in a state that does not allow this
├── StaleVersion            the run was written since it was read: read it again
├── IdempotencyKeyReused    the Idempotency-Key was used for another request
├── IdempotencyKeyInUse     the same request is being recorded now: try again
└── UpstreamError           what one call to an upstream meant (see upstream/faults.py)
    ├── NotSent             nothing was changed upstream: try again later
    │   ├── RunActive       … once the run has ended
    │   ├── TooLarge        … with a smaller page: the response was larger than allowed
    │   └── NoSlot          … when the rate limiter has a slot: nothing was requested
    ├── OutcomeUnknown      the write may have happened: fetch before sending again
    ├── Rejected            a final refusal: stop
    ├── NotFound            404: check whether only the run is missing, or everything
    ├── Forbidden           403: nothing was changed; it may concern one edit, one thread or the whole connection
    └── ConnectionHeld      nothing works on this connection until its settings are corrected: hold it
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runsadmin.text import clean


class RunsAdminError(Exception):
    """The base of all errors that this app raises on purpose."""


@dataclass(frozen=True)
class MetadataError:
    """One error in metadata. `key` is None if it concerns the whole map."""

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
    """`not_selected` has the ids that select no run, each with the reason."""

    def __init__(self, message: str, not_selected: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.not_selected = tuple(not_selected)


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
    """A call that failed. Without a response `http_status` is None and `request_id` empty.

    The server's message may contain anything: characters that can be neither stored nor shown become U+FFFD.
    `retry_after` is how many seconds the server wants us to wait, None when it does not say.
    `slow_down` is true when the server wants the whole connection to slow down (429, 503).
    `has_response` is false when there was no response, or no complete one.
    `is_outage` is true when the whole server may be affected: no response, or a proxy that cannot reach its server.
    `redirect` is the target of a redirect, otherwise empty. A redirect always concerns the whole connection.
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
        if self.http_status == 503:  # With a Retry-After it is only overloaded.
            return self.retry_after is None
        return not self.has_response or self.http_status in (502, 504)


class NotSent(UpstreamError):
    pass


class RunActive(NotSent):
    pass


class NoSlot(NotSent):
    pass


class TooLarge(NotSent):
    """`first_id` is the id of the first item if a list was requested and its beginning shows it."""

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
