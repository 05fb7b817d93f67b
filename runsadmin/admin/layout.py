"""Where the page of a run shows each documented field."""

from dataclasses import dataclass

from runsadmin.models import Run
from runsadmin.run_format import FIELDS, TIMES

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


def laid_out(run: Run, sections: Sections) -> list[tuple[str, list[Field]]]:
    return [(title, [_field(run, name) for name in names]) for title, names in sections]


def other_fields(run: Run) -> list[Field]:
    """The fields that this server sends in addition to the documented ones."""
    return [_plain(name, value) for name, value in run.data.items() if name not in FIELDS]


def _field(run: Run, name: str) -> Field:
    if name in TIMES:
        time = run.time(name)
        if time is None and run.data.get(name) is not None:
            return Field(name, "unreadable", run.data[name])
        return Field(name, "time" if time else "null", time)
    value = run.data.get(name)
    if name == "thread_id":
        return Field(name, "thread", run.thread)
    if value is None:
        return Field(name, "null" if name in run.data else "absent", None)
    if name in ("status", "assistant_id", "model") and isinstance(value, str) and value:
        return Field(name, name, value)
    if name == "usage" and isinstance(value, dict):
        return Field(name, "usage", [(key.replace("_", " "), count) for key, count in value.items()])
    if name == "instructions" and isinstance(value, str):
        return Field(name, "long", value)
    if name == "tools" and isinstance(value, list):
        return Field(name, "tools", [_tool(tool) for tool in value])
    return _plain(name, value)


def _plain(name: str, value: object) -> Field:
    if value is None:
        return Field(name, "null", None)
    if isinstance(value, dict | list):
        return Field(name, "json", value)
    return Field(name, "plain", value)


def _tool(tool: object) -> tuple[str, object]:
    """The name of a tool, and the whole tool if there is more than its type to show."""
    if not isinstance(tool, dict):
        return "tool", tool
    kind, function = str(tool.get("type", "tool")), tool.get("function")
    name = f"{kind}: {function['name']}" if isinstance(function, dict) and "name" in function else kind
    return name, tool if tool.keys() - {"type"} else None
