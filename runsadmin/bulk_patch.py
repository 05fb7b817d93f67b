"""The patch of a bulk edit: pairs to set, keys to remove and to rename, resolved for each run. Pure values.

A value may be a template over fields of the run: `{model}`, `{status}`, `{created:%Y-%m}`. Times are UTC, and what
follows their colon is a format of strftime, of which only those directives are supported that give the same on every
machine. A brace that is meant is doubled: `{{`.
"""

import datetime as dt
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from types import MappingProxyType

from runsadmin.errors import InvalidMetadata, MetadataError, RunsAdminError
from runsadmin.metadata import Metadata, MetadataPatch
from runsadmin.text import is_text

TEXTS = ("id", "thread", "assistant", "model", "status", "connection", "error")
TIMES = ("created", "started", "completed", "failed", "cancelled", "expires")

# Not %c, %x, %X, %r, %E and %O: they follow the locale. Not %s: it follows the time zone of the machine. Not flags and
# widths: they are glibc's.
_DIRECTIVES = "YyGgCmBbhdejHIMSfpAaUWVuwFDTRzZ"
_SUPPORTED = frozenset((*_DIRECTIVES, ":z", "%"))
_DIRECTIVE = re.compile(r"%(:z|.?)", re.DOTALL)

# The shortest that each can be: a Friday in May.
_SAMPLE = {**dict.fromkeys(TEXTS, "x"), **dict.fromkeys(TIMES, dt.datetime(2026, 5, 1, tzinfo=dt.UTC))}


class Skipped(RunsAdminError):
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
            if spec:
                _check_format(spec)

    def shortest(self) -> str:
        """The value for a run whose fields are as short as can be."""
        return self.fill(_SAMPLE)

    def fill(self, fields: Mapping[str, object]) -> str:
        """Raises LeftOut when the run has no value for a field."""
        parts: list[str] = []
        for literal, field, spec, _ in Formatter().parse(self.text):
            parts.append(literal)
            if field is not None:
                parts.append(_shown(field, fields[field], spec or ""))
        return "".join(parts)

    def _places(self) -> Iterator[tuple[str, str]]:
        try:
            places = list(Formatter().parse(self.text))
        except ValueError as error:
            raise ValueError(f"{error}. A brace that is meant is doubled: {{{{ or }}}}.") from None
        for _, field, spec, conversion in places:
            if conversion:
                raise ValueError(f"!{conversion} is not understood here.")
            if field is not None:
                yield field, spec or ""


def _shown(field: str, value: object, spec: str) -> str:
    if value is None or value == "":
        raise Skipped("no_value", f"The run has no {field}.")
    if isinstance(value, dt.datetime):
        time = value.astimezone(dt.UTC)
        # One directive at a time: what stands between them may be what the C library cannot take.
        return _DIRECTIVE.sub(lambda found: time.strftime(found[0]), spec or "%Y-%m-%dT%H:%M:%SZ")
    return str(value)


def _check_format(spec: str) -> None:
    """Raises ValueError for a format that is no strftime, or that gives something else on another machine."""
    if "{" in spec or "}" in spec:
        raise ValueError(f"The format {spec!r} holds a brace. Put it outside of the field.")
    found = _DIRECTIVE.findall(spec)
    for directive in found:
        if not directive:
            raise ValueError(f"The format {spec!r} ends with a lone %. A percent sign is doubled: %%.")
        if directive not in _SUPPORTED:
            known = " ".join(f"%{one}" for one in _DIRECTIVES)
            raise ValueError(
                f"%{directive} in the format {spec!r} is not supported, nor are flags and widths such as %-d and %10d. "
                f"Use: {known} %:z. A percent sign is doubled: %%."
            )
    if not any(directive != "%" for directive in found):
        raise ValueError(f"The format {spec!r} shows nothing of the time. Use directives such as %Y-%m-%d.")


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
                MetadataError(None, "nothing_to_change", "This changes nothing: name a pair to set, remove or rename.")
            )
        if problems:
            raise InvalidMetadata(problems)

    def _problems_of_keys(self) -> Iterator[MetadataError]:
        named = [*self.set, *self.remove, *self.rename, *self.rename.values()]
        for key in sorted(key for key, times in Counter(named).items() if times > 1):
            yield MetadataError(key, "named_twice", f"{key!r} is named more than once: say one thing about each key.")
        try:
            MetadataPatch.parse(dict.fromkeys([*self.set, *self.rename.values()], ""))
        except InvalidMetadata as error:
            yield from error.problems
        try:
            MetadataPatch.parse(dict.fromkeys([*self.remove, *self.rename]))
        except InvalidMetadata as error:
            yield from error.problems

    def _problems_of_values(self) -> Iterator[MetadataError]:
        for key, text in self.set.items():
            if not is_text(text):
                yield MetadataError(
                    key,
                    "invalid_character",
                    f"The value of {key!r} holds a character that cannot be stored (U+0000 or a lone surrogate).",
                )
                continue
            template = ValueTemplate(text)
            try:
                template.check()
            except ValueError as error:
                yield MetadataError(key, "invalid_template", f"The value of {key!r}: {error}")
                continue
            try:  # What the fields add is not known yet. Too long is what even the shortest of them make too long.
                MetadataPatch.parse({key: template.shortest()})
            except InvalidMetadata as error:
                yield from (problem for problem in error.problems if problem.code == "value_too_long")

    def resolve(self, fields: Mapping[str, object], metadata: Metadata) -> MetadataPatch:
        """What this means for one run: only what changes it. Raises LeftOut, InvalidMetadata."""
        pairs: dict[str, object] = {key: ValueTemplate(text).fill(fields) for key, text in self.set.items()}
        MetadataPatch.parse(pairs)
        gone = set(self.remove)
        for old, new in self.rename.items():
            if old not in metadata:
                continue
            if new in metadata and metadata[new] != metadata[old]:
                raise Skipped("name_taken", f"There is a pair {new!r} already: renaming {old!r} would overwrite it.")
            pairs[new] = metadata[old]
            gone.add(old)
        wanted = {key: value for key, value in metadata.items() if key not in gone} | pairs
        return MetadataPatch.between(metadata, wanted)
