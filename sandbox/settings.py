"""How the sandbox behaves. By default it behaves like a healthy upstream."""

from dataclasses import asdict, dataclass, field, replace
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from sandbox.messages import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    api_key: str | None = field(default=None, repr=False)  # None: no key is required.
    auth: Literal["bearer", "api-key"] = "bearer"
    modify: Literal["replace", "merge", "scramble"] = "replace"  # What a modification does to the existing metadata.
    check_limits: bool = True  # Off: any number of pairs, of any length, of any type.
    refuse_active: bool = True  # Off: queued and running runs can be modified, too.
    advance_runs: bool = True  # Active runs end on their own.
    pace: float = 1.0  # Multiplies how long runs stay active.
    latency_ms: float = 0  # The delay before each API call.
    requests_per_minute: int | None = None
    retry_after: str | None = "1"  # The Retry-After header if that limit is exceeded. None: no header.
    not_found_for_all: bool = False  # Like an upstream that was shut down permanently.
    lists_threads: bool = True  # Whether `GET /threads` exists: the vendor's API has no such call, but others do.
    redirect_to: str | None = None

    def changed(self, changes: Json) -> "Settings":
        """A copy with the changes. Raises ValueError, with a message for the caller, if one is invalid."""
        hints = get_type_hints(Settings)
        for name, value in changes.items():
            if name not in hints:
                raise ValueError(f"There is no setting '{name}'. Use one of: {', '.join(hints)}.")
            check_type(f"Setting '{name}'", value, hints[name], is_secret=name == "api_key")
        return replace(self, **changes)

    def to_json(self) -> Json:
        """All settings except the key, which is secret."""
        return {name: value for name, value in asdict(self).items() if name != "api_key"}


def check_type(what: str, value: Any, hint: Any, *, is_secret: bool = False) -> None:
    """Raises ValueError unless the JSON value has that type. A boolean is not a number; an integer is a valid float."""
    choices = get_args(hint) if get_origin(hint) in (Literal, UnionType) else (hint,)
    types = [get_origin(choice) or choice for choice in choices]
    if Any in types or value in types or type(value) in types or (type(value) is int and float in types):
        return
    names = ["null" if choice is NoneType else getattr(choice, "__name__", repr(choice)) for choice in types]
    shown = "this" if is_secret else repr(value)
    raise ValueError(f"{what} cannot be {shown}: expected {' or '.join(names)}.")
