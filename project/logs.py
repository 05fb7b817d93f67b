"""Log formats, for people (`line`) or machines (`json`). Every line names its request or edit."""

import logging
from collections.abc import Callable
from typing import Any

from structlog import contextvars, processors, stdlib
from structlog.typing import EventDict, WrappedLogger

# Allow-list of `extra` keys: Django passes whole requests.
EXTRAS = {"edit", "step", "status_code", "took_ms"}


def formatter(name: str) -> dict[str, Any]:
    """The formatter with this name (`line` or `json`), for `logging.config.dictConfig`."""
    renderers: dict[str, Callable[..., Any]] = {"line": line, "json": processors.JSONRenderer(default=str)}
    return {
        "()": stdlib.ProcessorFormatter,
        "foreign_pre_chain": [
            contextvars.merge_contextvars,
            stdlib.ExtraAdder(allow=EXTRAS),
            stdlib.add_logger_name,
            stdlib.add_log_level,
            processors.TimeStamper(fmt="iso"),
        ],
        "processors": [
            stdlib.ProcessorFormatter.remove_processors_meta,
            # Plain tracebacks: with the values of variables, they would show keys.
            processors.format_exc_info,
            renderers[name],
        ],
    }


def calm(record: logging.LogRecord) -> bool:
    """Removes the traceback when Django rejects a request (unknown host, body too large): one line is enough."""
    if record.name.startswith("django.security"):
        record.exc_info = None
    return True


def line(logger: WrappedLogger, name: str, event: EventDict) -> str:
    """Escapes messages, which may contain text from upstreams and strangers, so that it cannot fake a log line."""
    head = f"{event.pop('timestamp')} {event.pop('level').upper()} {event.pop('logger')}: {event.pop('event')}"
    traceback = str(event.pop("exception", "") or "")
    rest = " ".join(f"{key}={value}" for key, value in event.items())
    text = _printable(f"{head} [{rest}]" if rest else head)
    return "\n    ".join([text, *map(_printable, traceback.splitlines())])


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
