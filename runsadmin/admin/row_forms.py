"""Forms with rows of keys and values, shared by both metadata editors. They work with and without JavaScript."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from django import forms
from django.http import QueryDict

from runsadmin.errors import InvalidMetadata
from runsadmin.metadata import MAX_KEY_LENGTH, MAX_PAIRS, MAX_VALUE_LENGTH
from runsadmin.models.bulk_edit import MAX_REASON_LENGTH

BLANK_ROWS = 3
TEXT = {"dir": "auto", "autocomplete": "off"}
KEY_ATTRIBUTES = {"aria-label": "Key", "placeholder": "key", "spellcheck": "false", **TEXT}
VALUE_ATTRIBUTES = {"aria-label": "Value", "placeholder": "value", "spellcheck": "false", "rows": 1, **TEXT}
REASON_WIDGET = forms.TextInput({"maxlength": MAX_REASON_LENGTH, **TEXT})


class TypedText(forms.Field):
    """Text exactly as typed, with line breaks as LF: browsers submit them as CRLF."""

    def to_python(self, value: str | None) -> str:
        return (value or "").replace("\r\n", "\n")


class RowForm(forms.Form):
    key = TypedText(required=False, widget=forms.TextInput(KEY_ATTRIBUTES))
    value = TypedText(required=False, widget=forms.Textarea(VALUE_ATTRIBUTES))

    @property
    def named_keys(self) -> Collection[str | None]:
        """The keys that this row is about."""
        return (self.cleaned_data.get("key"),)

    @property
    def is_blank(self) -> bool:
        return not self.cleaned_data.get("key") and not self.cleaned_data.get("value")


class FormWithRows(forms.Form):
    """Keeps everything as typed. Errors are shown beside the row or field that they are about."""

    row_form: ClassVar[type[RowForm]] = RowForm
    max_pairs = MAX_PAIRS
    max_key_length = MAX_KEY_LENGTH
    max_value_length = MAX_VALUE_LENGTH

    def __init__(self, data: QueryDict | None = None, rows: Sequence[dict[str, object]] = (), **options: Any) -> None:
        super().__init__(data, auto_id="", **options)
        formset = forms.formset_factory(self.row_form, extra=BLANK_ROWS)
        # Posted rows have no initial values, since Django ignores a row that does not differ from them.
        self.rows = formset(data, initial=rows if data is None else None, prefix="row", auto_id="")

    @property
    def kept_keys(self) -> Collection[str]:
        """Keys that have no row but are kept."""
        return ()

    @property
    def typed(self) -> list[dict[str, str]]:
        """The rows that are not blank."""
        return [row.cleaned_data for row in self.rows if not row.is_blank]

    def clean(self) -> dict[str, Any]:
        self.rows.is_valid()  # Populates cleaned_data.
        counts = Counter([*self.kept_keys, *(row.cleaned_data.get("key") for row in self.rows if not row.is_blank)])
        for row in self.rows:
            if (key := row.cleaned_data.get("key")) and counts[key] > 1:
                row.add_error(None, f"{key!r} is used more than once. Use each key once.")
        return self.cleaned_data

    @contextmanager
    def showing_errors(self) -> Iterator[None]:
        try:
            yield
        except InvalidMetadata as invalid:
            for error in invalid.errors:
                row = next((row for row in self.rows if error.key and error.key in row.named_keys), None)
                field = "reason" if "reason" in error.code else None
                self.add_error(field, error.message) if row is None else row.add_error(None, error.message)

    @property
    def has_errors(self) -> bool:
        return self.is_bound and not (self.is_valid() and self.rows.is_valid())
