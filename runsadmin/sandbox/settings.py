"""How the sandbox behaves. What is not said at the start or over the control API is as a well-behaved upstream is."""

from dataclasses import asdict, dataclass, replace
from types import NoneType
from typing import Any, Literal, get_args, get_type_hints


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    api_key: str | None = None  # None: everybody may call.
    auth: Literal["bearer", "api-key"] = "bearer"
    modify: Literal["replace", "merge", "scramble"] = "replace"  # What becomes of the metadata that is there already.
    check_limits: bool = True  # Off: any number of pairs, of any length, of any type.
    refuse_active: bool = True  # Off: queued and running runs can be modified too.
    advance_runs: bool = True  # Runs move to their end by themselves.
    pace: float = 1.0  # A factor on how long they take for it.
    latency_ms: float = 0  # Added to every API call, before it is handled.
    requests_per_minute: int | None = None
    retry_after: str | None = "1"  # The header beside a 429 of our own; None leaves it out.
    not_found_for_all: bool = False  # As an upstream that was shut down answers.
    lists_threads: bool = True  # `GET /threads`: the vendor never had it, others do.
    redirect_to: str | None = None

    def changed(self, changes: dict[str, Any]) -> "Settings":
        """A copy with the changes; ValueError, with words for the caller, where one does not fit."""
        hints = get_type_hints(Settings)
        for name, value in changes.items():
            if name not in hints:
                raise ValueError(f"Unknown setting '{name}'. There are: {', '.join(hints)}.")
            if not fits(value, hints[name]):
                raise ValueError(f"Setting '{name}' cannot be {value!r}: expected {describe(hints[name])}.")
        return replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value is of this type. A boolean is no number; an integer may stand for a float."""
    choices = get_args(hint) or (hint,)
    if all(isinstance(choice, str) for choice in choices):
        return value in choices
    return type(value) in choices or (type(value) is int and float in choices)


def describe(hint: Any) -> str:
    return " or ".join("null" if choice is NoneType else getattr(choice, "__name__", repr(choice)) for choice in get_args(hint) or (hint,))
