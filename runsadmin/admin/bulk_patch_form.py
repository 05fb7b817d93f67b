"""The form for the patch of a bulk edit, with or without JavaScript. Keys that no row names stay as they are."""

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django import forms
from django.db.models import TextChoices
from django.http import QueryDict

from runsadmin.bulk_patch import TEXTS, TIMES, BulkPatch
from runsadmin.errors import InvalidMetadata
from runsadmin.metadata import MAX_KEY_LENGTH, MAX_PAIRS, MAX_VALUE_LENGTH
from runsadmin.models.bulk_edit import MAX_REASON_LENGTH
from runsadmin.services.bulk_edits import LONGEST_WAIT, MOST_RUNS

BLANK_ROWS = 3
MOST_HOURS = LONGEST_WAIT // dt.timedelta(hours=1)


class What(TextChoices):
    """What a row does with its key."""

    SET = "set", "set to"
    EMPTY = "empty", "set to empty text"
    REMOVE = "remove", "remove the pair"
    RENAME = "rename", "rename the key to"


@dataclass
class Row:
    what: str = What.SET
    key: str = ""
    value: str = ""
    errors: list[str] = field(default_factory=list)

    @property
    def is_blank(self) -> bool:
        return not self.key and not self.value and self.what == What.SET

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that this row names."""
        return (self.key, self.value) if self.what == What.RENAME else (self.key,)

    def check(self) -> None:
        """Checks for errors that only a form can have."""
        takes_text = self.what in (What.SET, What.RENAME)
        if self.what not in What.values:
            self.errors.append("Choose what to do with the key.")
        elif not self.key:
            self.errors.append("Enter the key.")
        elif self.what == What.SET and not self.value:
            self.errors.append("Enter the value, or choose “set to empty text” or “remove the pair”.")
        elif self.what == What.RENAME and not self.value:
            self.errors.append("Enter the new name of the key.")
        elif self.value and not takes_text:
            self.errors.append(f"This row uses no value. Clear {self.value[:40]!r}.")


def _always(message: str) -> dict[str, str]:
    """The same message for every error of a number field."""
    return dict.fromkeys(("invalid", "min_value", "max_value"), message)


class BulkPatchForm(forms.Form):
    """Keeps everything as typed. Errors are shown beside the row or field concerned."""

    reason = forms.CharField(
        error_messages={"required": "A bulk edit needs a reason. Enter one."},
        widget=forms.TextInput({"maxlength": MAX_REASON_LENGTH, "dir": "auto", "autocomplete": "off"}),
    )
    canary = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=MOST_RUNS,
        error_messages=_always("Enter a number of runs, or leave the field empty."),
        widget=forms.TextInput({"inputmode": "numeric", "class": "ra-short-input", "autocomplete": "off"}),
    )
    wait = forms.FloatField(
        required=False,
        min_value=1 / 3600,
        max_value=MOST_HOURS,
        error_messages=_always(f"Enter a number of hours, at most {MOST_HOURS}, or leave the field empty."),
        widget=forms.TextInput({"inputmode": "decimal", "class": "ra-short-input", "autocomplete": "off"}),
    )

    max_pairs = MAX_PAIRS
    max_key_length = MAX_KEY_LENGTH
    max_value_length = MAX_VALUE_LENGTH
    words = What.choices
    texts = tuple(f"{{{name}}}" for name in TEXTS)
    times = tuple(f"{{{name}}}" for name in TIMES)

    def __init__(self, data: QueryDict | None = None) -> None:
        super().__init__(data, auto_id=False)
        self.rows = [] if data is None else _rows(data)

    def clean(self) -> dict[str, Any]:
        for row in self.rows:
            row.check()
        several = {named for named, times in Counter((row.what, row.key) for row in self.rows).items() if times > 1}
        for row in self.rows:
            if row.key and (row.what, row.key) in several:
                row.errors.append(f"{row.key!r} is used more than once. Use each key once.")
        if not any(row.errors for row in self.rows):
            with self.showing_errors():
                self.patch.check()
        return self.cleaned_data

    @contextmanager
    def showing_errors(self) -> Iterator[None]:
        """Shows errors beside the row or field concerned."""
        try:
            yield
        except InvalidMetadata as error:
            for problem in error.problems:
                rows = [row for row in self.rows if problem.key in row.keys]
                if rows:
                    rows[0].errors.append(problem.message)
                else:
                    self.add_error("reason" if "reason" in problem.code else None, problem.message)

    @property
    def has_errors(self) -> bool:
        return bool(self.errors) or any(row.errors for row in self.rows)

    @property
    def typed(self) -> list[Row]:
        """The rows to fill in, with some blank ones at the end."""
        return [*self.rows, *(Row() for _ in range(BLANK_ROWS))]

    @property
    def patch(self) -> BulkPatch:
        return BulkPatch(
            set={row.key: row.value if row.what == What.SET else "" for row in self._with(What.SET, What.EMPTY)},
            remove=[row.key for row in self._with(What.REMOVE)],
            rename={row.key: row.value for row in self._with(What.RENAME)},
        )

    def _with(self, *what: What) -> list[Row]:
        return [row for row in self.rows if row.what in what]

    @property
    def wait_for_active(self) -> dt.timedelta | None:
        hours = self.cleaned_data["wait"]
        return None if hours is None else dt.timedelta(hours=hours)


def _rows(data: QueryDict) -> list[Row]:
    typed = zip(data.getlist("what"), data.getlist("key"), data.getlist("value"), strict=False)
    # Browsers send line ends as CRLF; what people type has LF.
    rows = [Row(what, key, value.replace("\r\n", "\n")) for what, key, value in typed]
    return [row for row in rows if not row.is_blank]
