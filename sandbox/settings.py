"""How the sandbox behaves. Left alone it behaves as a healthy upstream does."""

from dataclasses import asdict, dataclass, field, replace
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from sandbox.messages import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    api_key: str | None = field(default=None, repr=False)  # None: everybody may call.
    auth: Literal["bearer", "api-key"] = "bearer"
    modify: Literal["replace", "merge", "scramble"] = "replace"  # What a modification makes of the map that is there.
    check_limits: bool = True  # Off: any number of pairs, of any length, of any type.
    refuse_active: bool = True  # Off: queued and running runs can be modified too.
    advance_runs: bool = True  # Active runs come to their end by themselves.
    pace: float = 1.0  # A factor on the time that they take for it.
    latency_ms: float = 0  # Before any API call is handled.
    requests_per_minute: int | None = None
    retry_after: str | None = "1"  # The header beside a 429 of the line above; None leaves it out.
    not_found_for_all: bool = False  # As an upstream answers that was shut down for good.
    lists_threads: bool = True  # `GET /threads`: the vendor never had it, others do.
    redirect_to: str | None = None

    def changed(self, changes: Json) -> "Settings":
        """A copy with the changes; ValueError, in words for the caller, where one does not fit."""
        hints = get_type_hints(Settings)
        for name, value in changes.items():
            if name not in hints:
                raise ValueError(f"There is no setting '{name}'. There are: {', '.join(hints)}.")
            check_type(f"Setting '{name}'", value, hints[name], is_secret=name == "api_key")
        return replace(self, **changes)

    def to_json(self) -> Json:
        """All but the key, which is a secret."""
        return {name: value for name, value in asdict(self).items() if name != "api_key"}


def check_type(what: str, value: Any, hint: Any, *, is_secret: bool = False) -> None:
    """ValueError unless the JSON value is of that type. A boolean is no number; an integer may stand for a float."""
    choices = get_args(hint) if get_origin(hint) in (Literal, UnionType) else (hint,)
    types = [get_origin(choice) or choice for choice in choices]
    if Any in types or value in types or type(value) in types or (type(value) is int and float in types):
        return
    names = ["null" if choice is NoneType else getattr(choice, "__name__", repr(choice)) for choice in types]
    shown = "this" if is_secret else repr(value)
    raise ValueError(f"{what} cannot be {shown}: expected {' or '.join(names)}.")
