"""Log formats, for people (`line`) or machines (`json`). Lines about a request or an edit include its id."""

import logging
import time
import traceback
from collections.abc import Callable
from typing import Any

from structlog import contextvars, processors, stdlib
from structlog.typing import EventDict, WrappedLogger

# No other `extra` keys are logged, because Django passes whole requests in them.
EXTRAS = {"edit", "step", "status_code", "took_ms"}
# The most lines of a traceback, how many of them are its beginning, and the most characters of a line.
MAX_LINES, HEAD, MAX_LENGTH = 40, 10, 1000


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
            WithoutRepeatedTracebacks(),
            # Tracebacks must not contain the values of variables, which include API keys.
            processors.format_exc_info,
            shorten_traceback,
            renderers[name],
        ],
    }


def without_rejection_tracebacks(record: logging.LogRecord) -> bool:
    """Removes the traceback when Django rejects a request (unknown host, body too large, 403): one line is enough."""
    if record.name.startswith("django.security") or (
        record.name == "django.request" and getattr(record, "status_code", 500) < 500
    ):
        record.exc_info = None
    return True


class WithoutRepeatedTracebacks:
    """Removes a traceback that this process logged a short time ago. The line then names the error instead.

    A task that fails again and again would fill the disk with copies of one traceback.
    """

    EVERY = 600.0  # In seconds.
    MAX_KNOWN = 1000

    def __init__(self) -> None:
        self._logged: dict[object, float] = {}

    def __call__(self, logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
        exc_info = event.get("exc_info")
        error = exc_info[1] if isinstance(exc_info, tuple) else None
        if error is None:
            return event
        frames = list(traceback.walk_tb(error.__traceback__))
        place = (frames[-1][0].f_code.co_filename, frames[-1][1]) if frames else None
        key, now = (event["logger"], type(error), place), time.monotonic()
        if now - self._logged.get(key, -self.EVERY) < self.EVERY:
            del event["exc_info"]
            shown = traceback.format_exception_only(error)[-1].strip()[:MAX_LENGTH]
            event["event"] = f"{event['event']} {shown} (Its traceback was logged before.)"
        else:
            if len(self._logged) >= self.MAX_KNOWN:
                self._logged.clear()
            self._logged[key] = now
        return event


def line(logger: WrappedLogger, name: str, event: EventDict) -> str:
    """Formats one line. Control characters are escaped: text from upstreams and clients could forge log lines."""
    head = f"{event.pop('timestamp')} {event.pop('level').upper()} {event.pop('logger')}: {event.pop('event')}"
    exception = str(event.pop("exception", "") or "")
    rest = " ".join(f"{key}={value}" for key, value in event.items())
    text = _printable(f"{head} [{rest}]" if rest else head)
    return "\n    ".join([text, *map(_printable, exception.splitlines())])


def shorten_traceback(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    """Keeps the beginning and the end: a deep recursion has thousands of lines, and an error may quote a long text."""
    if event.get("exception"):
        lines = str(event["exception"]).splitlines()
        if (left_out := len(lines) - MAX_LINES) > 0:
            lines = [*lines[:HEAD], f"... {left_out} lines ...", *lines[HEAD - MAX_LINES :]]
        event["exception"] = "\n".join(part if len(part) <= MAX_LENGTH else f"{part[:MAX_LENGTH]}..." for part in lines)
    return event


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
