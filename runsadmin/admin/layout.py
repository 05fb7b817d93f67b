"""Where the page of a run shows each documented field."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from runsadmin.models import Run
from runsadmin.run_format import FIELDS, TIMES
from runsadmin.templatetags import display

type Sections = tuple[tuple[str, tuple[str, ...]], ...]

# The task of the run, shown below the metadata.
TASK: Sections = (
    ("Instructions", ("instructions",)),
    ("Tools", ("tools", "tool_choice", "parallel_tool_calls")),
)
# How the run went, shown beside the metadata.
DETAILS: Sections = (
    ("Run", ("id", "object", "status", "model", "assistant_id", "thread_id")),
    ("Times", TIMES),
    ("Usage", ("usage",)),
    ("How it ended", ("last_error", "incomplete_details", "required_action")),
    (
        "Settings",
        (
            "temperature", "top_p", "max_prompt_tokens", "max_completion_tokens", "truncation_strategy",
            "response_format",
        ),
    ),
)  # fmt: skip
# What fits on the page of a run. Whatever is longer is cut, with a link to the whole JSON.
MAX_CHARACTERS, MAX_FIELD_CHARACTERS, MAX_ITEMS = 500_000, 100_000, 100
LABELS = {"id": "run id", "assistant_id": "assistant", "thread_id": "thread", "last_error": "last error"}


@dataclass(frozen=True)
class Field:
    """A field to show. `kind` selects its layout in `parts/field.html`."""

    name: str
    kind: str
    value: object

    @property
    def label(self) -> str:
        """The readable name of a documented field. Other names are shown unchanged."""
        return (
            LABELS.get(self.name, self.name.removesuffix("_at").replace("_", " ")) if self.name in FIELDS else self.name
        )

    @property
    def is_wide(self) -> bool:
        return self.kind in ("long", "json", "tools")


class RunLayout:
    """The fields of one run, cut where they would make its page too long: servers may send megabytes."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._left = MAX_CHARACTERS
        self.is_cut = False
        self.task = self._laid_out(TASK)
        self.details = self._laid_out(DETAILS)
        # The fields that this server sends in addition to the documented ones.
        other = [(name, value) for name, value in run.data.items() if name not in FIELDS]
        self.other = [self._plain(name, value) for name, value in self._first(other)]
        self.metadata = self._first(run.metadata.items())
        self.json = self._json(run.data)

    def _laid_out(self, sections: Sections) -> list[tuple[str, list[Field]]]:
        return [(title, [self._field(name) for name in names]) for title, names in sections]

    def _field(self, name: str) -> Field:
        run = self.run
        if name in TIMES:
            time = run.time(name)
            if time is None and run.data.get(name) is not None:
                return Field(name, "unreadable", self._text(run.data[name]))
            return Field(name, "time" if time else "null", time)
        value = run.data.get(name)
        if name == "thread_id":
            return Field(name, "thread", run.thread)
        if value is None:
            return Field(name, "null" if name in run.data else "absent", None)
        if name in ("status", "assistant_id", "model") and isinstance(value, str) and value:
            return Field(name, name, self._text(value))
        if name == "usage" and isinstance(value, dict):
            counts = [(key.replace("_", " "), self._json(count)) for key, count in self._first(value.items())]
            return Field(name, "usage", counts)
        if name == "instructions" and isinstance(value, str):
            return Field(name, "long", self._text(value))
        if name == "tools" and isinstance(value, list):
            return Field(name, "tools", [self._tool(tool) for tool in self._first(value)])
        return self._plain(name, value)

    def _plain(self, name: str, value: object) -> Field:
        if value is None:
            return Field(name, "null", None)
        if isinstance(value, dict | list):
            return Field(name, "json", self._json(value))
        return Field(name, "plain", self._text(value))

    def _tool(self, tool: object) -> tuple[str, str]:
        """The name of a tool, and the whole tool as JSON if there is more than its type to show."""
        if not isinstance(tool, dict):
            return "tool", self._json(tool)
        kind, function = str(tool.get("type", "tool")), tool.get("function")
        name = f"{kind}: {function['name']}" if isinstance(function, dict) and "name" in function else kind
        return self._text(name), self._json(tool) if tool.keys() - {"type"} else ""

    def _first[T](self, values: Iterable[T]) -> list[T]:
        found = list(islice(values, MAX_ITEMS + 1))
        self.is_cut |= len(found) > MAX_ITEMS
        return found[:MAX_ITEMS]

    def _text(self, value: object) -> str:
        return self._cut([display.text(value)])

    def _json(self, value: object) -> str:
        """Indented, and cut while it is written: deep nesting makes it hundreds of times as long as the value."""
        return self._cut(json.JSONEncoder(ensure_ascii=False, indent=2).iterencode(value))

    def _cut(self, pieces: Iterable[str]) -> str:
        limit, text = min(MAX_FIELD_CHARACTERS, self._left), ""
        for piece in pieces:
            text += piece
            if len(text) > limit:
                self.is_cut = True
                text = f"{text[:limit]}…"
                break
        self._left = max(self._left - len(text), 0)
        return display.text(text)
