"""Whose work is done just now: the request, the account, the edit. Every log line written meanwhile tells it."""

from contextlib import AbstractContextManager

from structlog import contextvars


def begin_request(request_id: str) -> None:
    """Forgets the request before, which the same thread may have answered."""
    contextvars.clear_contextvars()
    contextvars.bind_contextvars(request_id=request_id)


def request_id() -> str:
    """Of the request that is answered just now; empty outside of one."""
    return str(contextvars.get_contextvars().get("request_id", ""))


def is_by(username: str) -> None:
    contextvars.bind_contextvars(user=username)


def about_edit(pk: int, *, request_id: str, username: str) -> AbstractContextManager[None]:
    """For the work on one edit, in whatever process: it goes by the request that recorded it."""
    return contextvars.bound_contextvars(edit=pk, request_id=request_id, user=username)
