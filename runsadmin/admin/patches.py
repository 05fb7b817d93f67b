"""The form in which the patch of a bulk edit is typed, with or without JavaScript. A key that no row names stays."""

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from django.http import QueryDict

from runsadmin.bulk_patch import TEXTS, TIMES, BulkPatch
from runsadmin.errors import InvalidMetadata
from runsadmin.metadata import MAX_KEY_LENGTH, MAX_PAIRS, MAX_VALUE_LENGTH

BLANK_ROWS = 3
MOST_HOURS = 24 * 30
MOST_RUNS = 2**31 - 1


class What(StrEnum):
    """What becomes of a key."""

    SET = "set"
    EMPTY = "empty"
    REMOVE = "remove"
    RENAME = "rename"


WORDS = (
    (What.SET, "set to"),
    (What.EMPTY, "set to empty text"),
    (What.REMOVE, "remove the pair"),
    (What.RENAME, "rename the key to"),
)


@dataclass
class Row:
    what: str = What.SET
    key: str = ""
    value: str = ""
    errors: list[str] = field(default_factory=list)

    @property
    def is_blank(self) -> bool:
        return not self.key and not self.value and self.what == What.SET

    def judge(self) -> None:
        """What only the form can get wrong."""
        takes_text = self.what in (What.SET, What.RENAME)
        if self.what not in list(What):
            self.errors.append("Choose what becomes of the key.")
        elif not self.key:
            self.errors.append("Name the key.")
        elif self.what == What.SET and not self.value:
            self.errors.append("Type the value, or choose “set to empty text” or “remove the pair”.")
        elif self.what == What.RENAME and not self.value:
            self.errors.append("Type the new name of the key.")
        elif self.value and not takes_text:
            self.errors.append(f"{self.value[:40]!r} is typed here, but this row uses no value: empty it.")


@dataclass
class PatchForm:
    """All of it as it was typed. `errors` are those of no row, by the name of the field: "" is the whole form."""

    rows: list[Row] = field(default_factory=list)
    reason: str = ""
    canary: str = ""
    wait: str = ""
    errors: dict[str, list[str]] = field(default_factory=dict)

    max_pairs = MAX_PAIRS
    max_key_length = MAX_KEY_LENGTH
    max_value_length = MAX_VALUE_LENGTH
    most_hours = MOST_HOURS
    words = WORDS
    texts = TEXTS
    times = TIMES

    @classmethod
    def read(cls, data: QueryDict) -> Self:
        typed = zip(data.getlist("what"), data.getlist("key"), data.getlist("value"), strict=False)
        # Browsers send line ends as CRLF; what people type has LF.
        rows = [Row(what, key, value.replace("\r\n", "\n")) for what, key, value in typed]
        form = cls(
            [row for row in rows if not row.is_blank],
            data.get("reason", "").strip(), data.get("canary", "").strip(), data.get("wait", "").strip(),
        )  # fmt: skip
        form._judge()
        return form

    def _judge(self) -> None:
        for row in self.rows:
            row.judge()
        several = {named for named, times in Counter((row.what, row.key) for row in self.rows).items() if times > 1}
        for row in self.rows:
            if row.key and (row.what, row.key) in several:
                row.errors.append(f"{row.key!r} is named more than once: say one thing about each key.")
        if not self.reason:
            self._tell("reason", "Say why: a bulk edit needs a reason.")
        if self.canary and not (self.canary.isdecimal() and 1 <= int(self.canary[:12]) <= MOST_RUNS):
            self._tell("canary", "Give a number of runs, or leave it empty.")
        try:
            hours = float(self.wait or 1)
        except ValueError:
            hours = 0
        if not 0 < hours <= MOST_HOURS:
            self._tell("wait", f"Give a number of hours, at most {MOST_HOURS}, or leave it empty.")
        if not any(row.errors for row in self.rows):
            with self.judging():
                self.patch.check()

    @contextmanager
    def judging(self) -> Iterator[None]:
        """Puts what is wrong beside the row or field that it is about."""
        try:
            yield
        except InvalidMetadata as error:
            for problem in error.problems:
                rows = [row for row in self.rows if problem.key in self._keys_of(row)]
                if rows:
                    rows[0].errors.append(problem.message)
                else:
                    self._tell("reason" if "reason" in problem.code else "", problem.message)

    @staticmethod
    def _keys_of(row: Row) -> tuple[str, ...]:
        return (row.key, row.value) if row.what == What.RENAME else (row.key,)

    def _tell(self, name: str, message: str) -> None:
        self.errors.setdefault(name, []).append(message)

    @property
    def whole_errors(self) -> list[str]:
        return self.errors.get("", [])

    @property
    def has_errors(self) -> bool:
        return bool(self.errors) or any(row.errors for row in self.rows)

    @property
    def typed(self) -> list[Row]:
        """The rows to type in, some blank ones at the end."""
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
    def first(self) -> int | None:
        """How many runs are to be changed before it pauses by itself."""
        return int(self.canary) if self.canary else None

    @property
    def wait_for_active(self) -> dt.timedelta | None:
        return dt.timedelta(hours=float(self.wait)) if self.wait else None
