"""The patch of a bulk edit: pairs to set, keys to remove or rename, resolved for each run. No Django, no I/O.

A value may be a template with fields of the run: `{model}`, `{status}`, `{created:%Y-%m}`. Times are in UTC and accept
a strftime format, limited to the directives that give the same result on every machine. A literal brace is doubled:
`{{`.
"""

import datetime as dt
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from string import Formatter
from types import MappingProxyType

from runsadmin.errors import InvalidMetadata, MetadataError, RunsAdminError
from runsadmin.metadata import Metadata, MetadataPatch, invalid_character
from runsadmin.text import is_text


@dataclass(frozen=True, kw_only=True)
class TemplateFields:
    """The fields that templates can use, with their values for one run. A missing value is empty or None.

    The fields are defined only here: validation derives from this class, and `planning.template_fields` fills it.
    """

    id: str
    thread: str
    assistant: str
    model: str
    status: str
    connection: str
    error: str
    created: dt.datetime | None
    started: dt.datetime | None
    completed: dt.datetime | None
    failed: dt.datetime | None
    cancelled: dt.datetime | None
    expires: dt.datetime | None


TEXTS = tuple(field.name for field in fields(TemplateFields) if field.type is str)
TIMES = tuple(field.name for field in fields(TemplateFields) if field.type is not str)

# Not supported: %c, %x, %X, %r, %E and %O, which depend on the locale; %s, which depends on the local time zone; flags
# and widths, which are glibc extensions.
_DIRECTIVES = "YyGgCmBbhdejHIMSfpAaUWVuwFDTRzZ"
_SUPPORTED = frozenset((*_DIRECTIVES, ":z", "%"))
_DIRECTIVE = re.compile(r"%(:z|.?)", re.DOTALL)

# The shortest possible values. The date is a Friday in May: no other names are shorter.
_SHORTEST = TemplateFields(
    **dict.fromkeys(TEXTS, "x"),  # type: ignore[arg-type]
    **dict.fromkeys(TIMES, dt.datetime(2026, 5, 1, tzinfo=dt.UTC)),  # type: ignore[arg-type]
)


class Skipped(RunsAdminError):
    """The patch cannot be applied to this run. `why` is a value of Edit.PlanResult."""

    def __init__(self, why: str, message: str) -> None:
        super().__init__(message)
        self.why = why


def _fill(template: str, values: TemplateFields) -> str:
    """Fills in a template. Raises Skipped if the run has no value for a field."""
    parts: list[str] = []
    for literal, field, spec, _ in Formatter().parse(template):
        parts.append(literal)
        if field is not None:
            parts.append(_shown(field, getattr(values, field), spec or ""))
    return "".join(parts)


def _shown(field: str, value: object, spec: str) -> str:
    if value is None or value == "":
        raise Skipped("no_value", f"The run has no {field}.")
    if isinstance(value, dt.datetime):
        time = value.astimezone(dt.UTC)
        # Format each directive separately: the C library may not accept the text between them.
        return _DIRECTIVE.sub(lambda found: time.strftime(found[0]), spec or "%Y-%m-%dT%H:%M:%SZ")
    return str(value)


def _check_template(template: str) -> None:
    """Raises a ValueError whose message says what is allowed."""
    try:
        placeholders = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"{error}. Double a literal brace: {{{{ or }}}}.") from None
    for _, field, spec, conversion in placeholders:
        if conversion:
            raise ValueError(f"!{conversion} is not supported. Remove it.")
        if field is not None and field not in (*TEXTS, *TIMES):
            known = ", ".join((*TEXTS, *TIMES))
            raise ValueError(f"{{{field}}} is not a field. Use one of: {known}. Double a literal brace: {{{{.")
        if spec and field in TEXTS:
            raise ValueError(f"{{{field}}} does not accept a format: only times do.")
        if spec:
            _check_format(spec)


def _check_format(spec: str) -> None:
    """Raises ValueError for a format that is invalid or depends on the machine."""
    if "{" in spec or "}" in spec:
        raise ValueError(f"The format {spec!r} contains a brace. Put it outside the field.")
    found = _DIRECTIVE.findall(spec)
    for directive in found:
        if not directive:
            raise ValueError(f"The format {spec!r} ends with a single %. Write %% for a percent sign.")
        if directive not in _SUPPORTED:
            known = " ".join(f"%{one}" for one in _DIRECTIVES)
            raise ValueError(
                f"%{directive} in the format {spec!r} is not supported, nor are flags and widths such as %-d and %10d. "
                f"Use: {known} %:z. Write %% for a percent sign."
            )
    if not any(directive != "%" for directive in found):
        raise ValueError(f"The format {spec!r} has no directive. Use directives such as %Y-%m-%d.")


@dataclass(frozen=True)
class BulkPatch:
    set: Mapping[str, str]
    remove: Sequence[str] = ()
    rename: Mapping[str, str] = MappingProxyType({})

    def check(self) -> None:
        """Raises InvalidMetadata with all errors."""
        errors = [*self._key_errors(), *self._value_errors()]
        if not (self.set or self.remove or self.rename):
            errors.append(
                MetadataError(None, "nothing_to_change", "This changes nothing. Name a key to set, remove or rename.")
            )
        if errors:
            raise InvalidMetadata(errors)

    def _key_errors(self) -> Iterator[MetadataError]:
        named = [*self.set, *self.remove, *self.rename, *self.rename.values()]
        for key in sorted(key for key, times in Counter(named).items() if times > 1):
            yield MetadataError(key, "named_twice", f"{key!r} is used more than once. Use each key once.")
        for pairs in (
            dict.fromkeys([*self.set, *self.rename.values()], ""),
            dict.fromkeys([*self.remove, *self.rename]),
        ):
            try:
                MetadataPatch.parse(pairs)
            except InvalidMetadata as invalid:
                yield from invalid.errors

    def _value_errors(self) -> Iterator[MetadataError]:
        for key, text in self.set.items():
            if not is_text(text):
                yield invalid_character(key, f"The value of {key!r}")
                continue
            try:
                _check_template(text)
            except ValueError as error:
                yield MetadataError(key, "invalid_template", f"The value of {key!r}: {error}")
                continue
            try:  # The values of fields are not known yet, so only a value that is always too long is an error.
                MetadataPatch.parse({key: _fill(text, _SHORTEST)})
            except InvalidMetadata as invalid:
                yield from (error for error in invalid.errors if error.code == "value_too_long")

    def resolve(self, values: TemplateFields, metadata: Metadata) -> MetadataPatch:
        """The changes to one run. Raises Skipped or InvalidMetadata."""
        pairs: dict[str, object] = {key: _fill(text, values) for key, text in self.set.items()}
        MetadataPatch.parse(pairs)
        gone = set(self.remove)
        for old, new in self.rename.items():
            if old not in metadata:
                continue
            if new in metadata and metadata[new] != metadata[old]:
                raise Skipped("name_taken", f"The key {new!r} already exists: renaming {old!r} would overwrite it.")
            pairs[new] = metadata[old]
            gone.add(old)
        wanted = {key: value for key, value in metadata.items() if key not in gone} | pairs
        return MetadataPatch.between(metadata, wanted)

    def why_unchanged(self) -> str:
        """Why the patch changes nothing in a run, part by part."""
        parts = [
            ("already has the values to set", self.set),
            ("does not have the keys to remove", self.remove),
            ("does not have the keys to rename", self.rename),
        ]
        reasons = [f"{what} ({', '.join(map(repr, keys))})" for what, keys in parts if keys]
        return f"The run {', and '.join(reasons)}."
