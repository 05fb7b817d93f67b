"""The request, account and edit that are being processed. Every log line written meanwhile includes them."""

from contextlib import AbstractContextManager

from structlog import contextvars


def begin_request(request_id: str) -> None:
    """Replaces the context of the previous request in the same thread."""
    contextvars.clear_contextvars()
    contextvars.bind_contextvars(request_id=request_id)


def request_id() -> str:
    """The id of the current request; empty outside of one."""
    return str(contextvars.get_contextvars().get("request_id", ""))


def is_by(username: str) -> None:
    contextvars.bind_contextvars(user=username)


def about_edit(pk: int, *, request_id: str, username: str) -> AbstractContextManager[None]:
    """For work on one edit, in any process: log lines name the request that recorded it."""
    return contextvars.bound_contextvars(edit=pk, request_id=request_id, user=username)
