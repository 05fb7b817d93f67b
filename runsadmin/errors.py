"""All exceptions of this app. Each says what the caller may do next."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runsadmin.text import clean


class RunsAdminError(Exception):
    """The base class of all errors that this app raises deliberately."""


@dataclass(frozen=True)
class MetadataError:
    """One error in metadata. `key` is None if the error is about the whole map."""

    key: str | None
    code: str
    message: str


class InvalidMetadata(RunsAdminError):
    """The metadata is invalid. The message says what is allowed."""

    def __init__(self, errors: Sequence[MetadataError]) -> None:
        super().__init__(" ".join(error.message for error in errors))
        self.errors = tuple(errors)


class WrongSchema(RunsAdminError):
    """The database is older or newer than the code. The message says which, and what to do. Do not use it meanwhile."""


class DatabaseInUse(RunsAdminError):
    """Other processes use the database. Stop them, then try again."""


class BackupFailed(RunsAdminError):
    """The backup was not made or not restored, and nothing was changed. The message says why, and what to do."""


class InvalidSearch(RunsAdminError):
    """The search is invalid. The message says where, and what was expected.

    `position` is the number of the character, from 1; None if it concerns the whole search.
    """

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message if position is None else f"At character {position}: {message}")
        self.position = position


class InvalidToken(RunsAdminError):
    """The text identifies no token, or several."""


class InvalidColumns(RunsAdminError):
    """A list of columns is invalid. The message says what is wrong, and names the nearest column."""


class InvalidView(RunsAdminError):
    """A field of a saved view is invalid. The message says what is expected."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


class UnknownView(RunsAdminError):
    """There is no such saved view, or it belongs to someone else who does not share it."""


class InvalidSelection(RunsAdminError):
    """The selected runs cannot be edited together. The message says why.

    `not_selected` has the ids that do not select a run, each with a reason.
    """

    def __init__(self, message: str, not_selected: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.not_selected = tuple(not_selected)


class InvalidList(RunsAdminError):
    """A list of ids is invalid. The message says where, and what to do."""


class FormatUnavailable(RunsAdminError):
    """An export cannot have this format here. The message says what to install."""


class TooManyExports(RunsAdminError):
    """As many exports as permitted are being sent. Try again later, or have a worker write a file."""


class ExportStopped(RunsAdminError):
    """The export was cancelled, or its claim has expired. Nothing more is sent or written."""


class FileMissing(RunsAdminError):
    """The file of an export is not where it should be. The message says what to do."""


class InvalidFile(RunsAdminError):
    """A file cannot be imported. The message says why, and what to do."""


class InvalidId(RunsAdminError):
    """No upstream could have issued this id. Correct it."""


class NotAllowed(RunsAdminError):
    """The account lacks a permission. The message says which."""


class UnknownConnection(RunsAdminError):
    """No such connection is configured."""


class ReadOnlyConnection(RunsAdminError):
    """The connection is an archive. Its runs can be read, searched and exported, but nothing can be sent or changed."""


class InvalidTransition(RunsAdminError):
    """The row is in a state that does not allow this action."""


class StaleVersion(RunsAdminError):
    """The run has been written since it was read. Read it again."""


class IdempotencyKeyReused(RunsAdminError):
    """The Idempotency-Key has already been used for another request. Use a new one."""


class IdempotencyKeyInUse(RunsAdminError):
    """The same request is being recorded now. Try again later."""


class UpstreamError(RunsAdminError):
    """What a failed call to an upstream means, as decided by `upstream/call_errors.py`.

    Without a response, `http_status` is None and `request_id` is empty.

    The server's message may contain anything: characters that can be neither stored nor shown become U+FFFD.
    `retry_after` is how many seconds the server asks us to wait, or None if it does not say.
    `slow_down` is true if the server wants the whole connection to slow down (429, 503).
    `has_response` is false if there was no response, or no complete one.
    `is_outage` is true if the whole server may be affected: no response, or one from a proxy that cannot reach it.
    `redirect` is the target of a redirect, or empty. A redirect always affects the whole connection.
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
        if self.http_status == 503:  # With a Retry-After, the server is only overloaded.
            return self.retry_after is None
        return not self.has_response or self.http_status in (502, 504)


class NotSent(UpstreamError):
    """Nothing was changed upstream. Try again later."""


class RunActive(NotSent):
    """Try again once the run has ended."""


class NoSlot(NotSent):
    """Nothing was requested. Try again when the rate limiter has a slot."""


class TooLarge(NotSent):
    """Try again with a smaller page: the response was larger than allowed.

    `first_id` is the id of the first item, if the response is a list and its beginning contains that id.
    """

    def __init__(self, message: str, *, first_id: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        self.first_id = first_id


class OutcomeUnknown(UpstreamError):
    """The write may have happened. Fetch before sending again."""


class Rejected(UpstreamError):
    """A final refusal. Do not try again."""


class NotFound(UpstreamError):
    """The server returned 404. Check whether only the run is missing or everything is."""


class Forbidden(UpstreamError):
    """The server returned 403. Nothing was changed. This may affect one edit, one thread or the whole connection."""


class ConnectionHeld(UpstreamError):
    """Nothing works on this connection until its settings are corrected. Hold it."""
