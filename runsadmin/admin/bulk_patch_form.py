"""The form for the patch of a bulk edit. Keys that no row names stay as they are."""

import datetime as dt
from collections.abc import Collection
from typing import Any

from django import forms
from django.db.models import TextChoices

from runsadmin.admin.row_forms import KEY_ATTRIBUTES, REASON_WIDGET, FormWithRows, RowForm, TypedText
from runsadmin.bulk_patch import TEXTS, TIMES, BulkPatch
from runsadmin.services.bulk_edits import LONGEST_WAIT, MAX_RUNS

MAX_HOURS = LONGEST_WAIT // dt.timedelta(hours=1)


class KeyAction(TextChoices):
    """What a row does with its key."""

    SET = "set", "set to"
    EMPTY = "empty", "set to empty text"
    REMOVE = "remove", "remove the pair"
    RENAME = "rename", "rename the key to"


_WITHOUT_VALUE = (KeyAction.EMPTY, KeyAction.REMOVE)
_MISSING_VALUE = {
    KeyAction.SET: "Enter the value, or choose “set to empty text” or “remove the pair”.",
    KeyAction.RENAME: "Enter the new name of the key.",
}


class ChangeForm(RowForm):
    key = TypedText(required=False, widget=forms.TextInput({**KEY_ATTRIBUTES, "list": "observed-keys"}))
    what = forms.ChoiceField(
        choices=KeyAction.choices,
        initial=KeyAction.SET,
        error_messages=dict.fromkeys(("required", "invalid_choice"), "Choose what to do with the key."),
        widget=forms.Select({"aria-label": "Change"}),
    )

    def clean(self) -> dict[str, Any]:
        what, value = self.cleaned_data.get("what"), self.cleaned_data["value"]
        if self.is_blank or not what:
            return self.cleaned_data
        if not self.cleaned_data["key"]:
            self.add_error(None, "Enter the key.")
        elif value and what in _WITHOUT_VALUE:
            self.add_error(None, f"This row does not use a value. Clear the value {value[:40]!r}.")
        elif not value and what in _MISSING_VALUE:
            self.add_error(None, _MISSING_VALUE[KeyAction(what)])
        return self.cleaned_data

    @property
    def named_keys(self) -> Collection[str | None]:
        row = self.cleaned_data
        return (row.get("key"), row.get("value") if row.get("what") == KeyAction.RENAME else None)

    @property
    def is_blank(self) -> bool:
        return super().is_blank and self.cleaned_data.get("what", KeyAction.SET) == KeyAction.SET


def _for_all_errors(message: str) -> dict[str, str]:
    """The same message for every error of a number field."""
    return dict.fromkeys(("invalid", "min_value", "max_value"), message)


def _short_input(mode: str) -> forms.TextInput:
    return forms.TextInput({"inputmode": mode, "class": "ra-short-input", "autocomplete": "off"})


class BulkPatchForm(FormWithRows):
    row_form = ChangeForm
    reason = forms.CharField(
        error_messages={"required": "A bulk edit needs a reason. Enter one."}, widget=REASON_WIDGET
    )
    canary = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=MAX_RUNS,
        error_messages=_for_all_errors("Enter a number of runs, or leave the field empty."),
        widget=_short_input("numeric"),
    )
    wait = forms.FloatField(
        required=False,
        min_value=1 / 3600,
        max_value=MAX_HOURS,
        error_messages=_for_all_errors(f"Enter a number of hours, at most {MAX_HOURS}, or leave the field empty."),
        widget=_short_input("decimal"),
    )

    texts = tuple(f"{{{name}}}" for name in TEXTS)
    times = tuple(f"{{{name}}}" for name in TIMES)

    def clean(self) -> dict[str, Any]:
        super().clean()
        if self.rows.is_valid():
            with self.showing_errors():
                self.patch.check()
        return self.cleaned_data

    @property
    def patch(self) -> BulkPatch:
        rows = self.typed
        return BulkPatch(
            set={row["key"]: row["value"] for row in rows if row["what"] in (KeyAction.SET, KeyAction.EMPTY)},
            remove=[row["key"] for row in rows if row["what"] == KeyAction.REMOVE],
            rename={row["key"]: row["value"] for row in rows if row["what"] == KeyAction.RENAME},
        )

    @property
    def wait_for_active(self) -> dt.timedelta | None:
        hours = self.cleaned_data["wait"]
        return None if hours is None else dt.timedelta(hours=hours)
