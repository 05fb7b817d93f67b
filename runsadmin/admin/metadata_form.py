"""The form for editing the metadata of a run, with or without JavaScript.

It carries the metadata that the user saw, signed, so that simultaneous edits of the same key are detected.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

from django.core import signing
from django.http import QueryDict

from runsadmin.errors import InvalidMetadata
from runsadmin.metadata import MAX_KEY_LENGTH, MAX_PAIRS, MAX_VALUE_LENGTH, Metadata, MetadataPatch
from runsadmin.models import Run
from runsadmin.models.bulk_edit import MAX_REASON_LENGTH
from runsadmin.text import is_text

SALT = "runsadmin.pairs"
BLANK_ROWS = 3


@dataclass
class Row:
    """One pair as typed. A `kept` pair is other JSON from a lax server: it can only be kept or removed."""

    key: str = ""
    value: object = ""
    is_kept: bool = False
    stays: bool = True
    errors: list[str] = field(default_factory=list)

    @property
    def is_blank(self) -> bool:
        return not self.key and not self.value


@dataclass
class MetadataForm:
    base: dict[str, object]
    signed_base: str
    rows: list[Row]
    reason: str = ""
    errors: list[str] = field(default_factory=list)

    max_pairs = MAX_PAIRS
    max_key_length = MAX_KEY_LENGTH
    max_value_length = MAX_VALUE_LENGTH
    max_reason_length = MAX_REASON_LENGTH

    @classmethod
    def show(cls, run: Run) -> Self:
        base = dict(run.metadata)
        signed = signing.dumps({"run": run.pk, "base": base}, salt=SALT, compress=True)
        rows = [Row(key, value, is_kept=not _can_be_typed(key, value)) for key, value in base.items()]
        return cls(base, signed, rows)

    @classmethod
    def read(cls, data: QueryDict, run: Run) -> Self:
        """The posted form, with its errors."""
        try:
            carried = signing.loads(data.get("base", ""), salt=SALT)
            if carried["run"] != run.pk:
                raise signing.BadSignature
        except signing.BadSignature:
            form = cls.show(run)
            form.errors.append(
                "The form was changed or is too old to use. It now shows the current metadata: edit it again."
            )
            return form
        base: dict[str, object] = carried["base"]
        rows = [
            Row(key, value, is_kept=True, stays=str(place) in data.getlist("keep"))
            for place, (key, value) in enumerate(base.items())
            if not _can_be_typed(key, value)
        ]
        typed = zip(data.getlist("key"), data.getlist("value"), strict=False)
        rows += [Row(key, _as_typed(value)) for key, value in typed]
        form = cls(base, str(data["base"]), [row for row in rows if not row.is_blank], data.get("reason", "").strip())
        form._check_rows()
        return form

    def _check_rows(self) -> None:
        """Checks for errors that only a form can have: empty and duplicate keys."""
        seen: set[str] = set()
        for row in self.rows:
            if row.is_kept and not row.stays:
                continue
            if not row.key and not row.is_kept:
                row.errors.append("The key is empty. Enter one.")
            elif row.key in seen:
                row.errors.append(f"The key {row.key!r} is used twice. Remove one of them.")
            seen.add(row.key)

    @contextmanager
    def showing_errors(self) -> Iterator[None]:
        """Shows errors in the metadata beside the row concerned."""
        try:
            yield
        except InvalidMetadata as error:
            for problem in error.problems:
                rows = [row for row in self.rows if row.key == problem.key] if problem.key is not None else []
                (rows[0].errors if rows else self.errors).append(problem.message)

    def patch(self) -> MetadataPatch:
        """The user's changes. Raises InvalidMetadata."""
        typed = {row.key: row.value for row in self.rows if row.stays}
        return MetadataPatch.parse(MetadataPatch.between(self.base, typed).as_merge_patch())

    @property
    def has_errors(self) -> bool:
        return bool(self.errors) or any(row.errors for row in self.rows)

    @property
    def kept(self) -> list[tuple[int, Row]]:
        """The rows that cannot be typed, each with its position in the base."""
        places = list(self.base)
        return [(places.index(row.key), row) for row in self.rows if row.is_kept]

    @property
    def typed(self) -> list[Row]:
        """The rows to fill in, with some blank ones at the end."""
        rows = [row for row in self.rows if not row.is_kept]
        return [*rows, *(Row() for _ in range(BLANK_ROWS))]

    @property
    def seen(self) -> Metadata:
        return Metadata(self.base)


def _can_be_typed(key: str, value: object) -> bool:
    """Whether a browser would submit the value unchanged: it rewrites line breaks and cannot hold lone surrogates."""
    return (
        isinstance(value, str) and is_text(key) and is_text(value) and not {"\r", "\n"} & set(key) and "\r" not in value
    )


def _as_typed(value: str) -> str:
    """Browsers submit line breaks as CRLF; stored and typed values have LF."""
    return value.replace("\r\n", "\n")
