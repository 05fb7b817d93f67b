"""The patch of a bulk edit: pairs to set, keys to remove and to rename, resolved for each run. Pure values.

A value may be a template over fields of the run: `{model}`, `{status}`, `{created:%Y-%m}`. Times are UTC, and what
follows their colon is a format of strftime. A brace that is meant is doubled: `{{`.
"""

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from string import Formatter
from types import MappingProxyType

from runsadmin.errors import InvalidMetadata, Problem, RunsAdminError
from runsadmin.metadata import Metadata, MetadataPatch

TEXTS = ("id", "thread", "assistant", "model", "status", "connection", "error")
TIMES = ("created", "started", "completed", "failed", "cancelled", "expires")

_SAMPLE = {**dict.fromkeys(TEXTS, "x"), **dict.fromkeys(TIMES, dt.datetime(2026, 1, 1, tzinfo=dt.UTC))}


class LeftOut(RunsAdminError):
    """This run cannot be changed as the patch wants. `why` is a code: taken, no_value (see Edit.Finding)."""

    def __init__(self, why: str, message: str) -> None:
        super().__init__(message)
        self.why = why


@dataclass(frozen=True)
class ValueTemplate:
    """Text with places for fields of a run."""

    text: str

    def check(self) -> None:
        """Raises ValueError, in words that say what is allowed."""
        for field, spec in self._places():
            if field not in _SAMPLE:
                known = ", ".join((*TEXTS, *TIMES))
                raise ValueError(f"{{{field}}} is no field of a run. There are: {known}. A brace is doubled: {{{{.")
            if spec and field in TEXTS:
                raise ValueError(f"{{{field}}} takes no format: only times do.")
        self.fill(_SAMPLE)

    def fill(self, fields: Mapping[str, object]) -> str:
        """Raises LeftOut when the run has no value for a field."""
        parts: list[str] = []
        for literal, field, spec, _ in Formatter().parse(self.text):
            parts.append(literal)
            if field is not None:
                parts.append(_shown(field, fields[field], spec or ""))
        return "".join(parts)

    def _places(self) -> Iterator[tuple[str, str]]:
        for _, field, spec, conversion in Formatter().parse(self.text):
            if conversion:
                raise ValueError(f"!{conversion} is not understood here.")
            if field is not None:
                yield field, spec or ""


def _shown(field: str, value: object, spec: str) -> str:
    if value is None or value == "":
        raise LeftOut("no_value", f"The run has no {field}.")
    if isinstance(value, dt.datetime):
        value = value.astimezone(dt.UTC)
        return value.strftime(spec) if spec else value.strftime("%Y-%m-%dT%H:%M:%SZ")
    return str(value)


@dataclass(frozen=True)
class BulkPatch:
    set: Mapping[str, str]
    remove: Sequence[str] = ()
    rename: Mapping[str, str] = MappingProxyType({})

    def check(self) -> None:
        """Raises InvalidMetadata, with every mistake."""
        problems = [*self._problems_of_keys(), *self._problems_of_values()]
        if not (self.set or self.remove or self.rename):
            problems.append(
                Problem(None, "nothing_to_change", "This changes nothing: name a pair to set, remove or rename.")
            )
        if problems:
            raise InvalidMetadata(problems)

    def _problems_of_keys(self) -> Iterator[Problem]:
        named = [*self.set, *self.remove, *self.rename, *self.rename.values()]
        for key in sorted(key for key, times in Counter(named).items() if times > 1):
            yield Problem(key, "named_twice", f"{key!r} is named more than once: say one thing about each key.")
        try:
            MetadataPatch.parse(dict.fromkeys([*self.set, *self.rename.values()], ""))
        except InvalidMetadata as error:
            yield from error.problems
        try:
            MetadataPatch.parse(dict.fromkeys([*self.remove, *self.rename]))
        except InvalidMetadata as error:
            yield from error.problems

    def _problems_of_values(self) -> Iterator[Problem]:
        for key, text in self.set.items():
            template = ValueTemplate(text)
            try:
                template.check()
            except ValueError as error:
                yield Problem(key, "invalid_template", f"The value of {key!r}: {error}")
                continue
            try:  # What the fields add is not known yet: too long can be said for sure without them only.
                MetadataPatch.parse({"x": template.fill(dict.fromkeys((*TEXTS, *TIMES), "x"))})
            except InvalidMetadata as error:
                yield from (replace(problem, key=key) for problem in error.problems)

    def resolve(self, fields: Mapping[str, object], metadata: Metadata) -> MetadataPatch:
        """What this means for one run: only what changes it. Raises LeftOut, InvalidMetadata."""
        pairs: dict[str, object] = {key: ValueTemplate(text).fill(fields) for key, text in self.set.items()}
        MetadataPatch.parse(pairs)
        gone = set(self.remove)
        for old, new in self.rename.items():
            if old not in metadata:
                continue
            if new in metadata and metadata[new] != metadata[old]:
                raise LeftOut("taken", f"There is a pair {new!r} already: renaming {old!r} would overwrite it.")
            pairs[new] = metadata[old]
            gone.add(old)
        wanted = {key: value for key, value in metadata.items() if key not in gone} | pairs
        return MetadataPatch.between(metadata, wanted)
