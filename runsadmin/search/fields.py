"""The fields of the search language, and what kind of values each has."""

from enum import Enum


class Kind(Enum):
    TEXT = "a text"
    TIME = "a time"
    NUMBER = "a number"
    DURATION = "a duration"


METADATA = "metadata"

KINDS = {
    "assistant": Kind.TEXT,
    "cancelled": Kind.TIME,
    "completed": Kind.TIME,
    "completion_tokens": Kind.NUMBER,
    "connection": Kind.TEXT,
    "created": Kind.TIME,
    "duration": Kind.DURATION,
    "error": Kind.TEXT,
    "expires": Kind.TIME,
    "failed": Kind.TIME,
    "id": Kind.TEXT,
    "missing": Kind.TIME,
    "model": Kind.TEXT,
    "prompt_tokens": Kind.NUMBER,
    "started": Kind.TIME,
    "status": Kind.TEXT,
    "thread": Kind.TEXT,
    "tokens": Kind.NUMBER,
}
