"""The request and account that are being processed. Every log line written meanwhile includes them."""

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
