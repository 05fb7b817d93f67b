"""The current request id and user, which every log line includes."""

from structlog import contextvars


def begin_request(request_id: str) -> None:
    """Sets the request id and clears what an earlier request in the same thread left behind."""
    contextvars.clear_contextvars()
    contextvars.bind_contextvars(request_id=request_id)


def request_id() -> str:
    """The id of the current request. Empty outside of requests."""
    return str(contextvars.get_contextvars().get("request_id", ""))


def set_user(username: str) -> None:
    contextvars.bind_contextvars(user=username)
