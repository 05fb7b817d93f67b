"""The form for editing the metadata of a run.

It contains the metadata that the user saw, signed, so that simultaneous edits of the same key are detected.
"""

from typing import Any

from django import forms
from django.core import signing
from django.http import QueryDict

from runsadmin.admin.row_forms import REASON_WIDGET, FormWithRows, RowForm
from runsadmin.metadata import MetadataPatch
from runsadmin.models import Run
from runsadmin.text import is_text


class PairForm(RowForm):
    def clean(self) -> dict[str, Any]:
        if not self.is_blank and not self.cleaned_data["key"]:
            self.add_error(None, "The key is empty. Enter one.")
        return self.cleaned_data


class MetadataForm(FormWithRows):
    """A row for each pair that can be typed. Other values, from lax servers, can only be kept or removed."""

    row_form = PairForm
    base = forms.CharField(widget=forms.HiddenInput)
    keep = forms.MultipleChoiceField(required=False)
    reason = forms.CharField(required=False, widget=REASON_WIDGET)

    def __init__(self, run: Run, data: QueryDict | None = None) -> None:
        salt = f"runsadmin.metadata.{run.pk}"  # The base of one run is not valid for another.
        self.is_outdated = False
        self.seen: dict[str, object] = dict(run.metadata)
        if data is not None:
            try:
                self.seen = signing.loads(data.get("base", ""), salt=salt)
            except signing.BadSignature:
                data, self.is_outdated = None, True
        rows = [{"key": key, "value": value} for key, value in self.seen.items() if _can_be_typed(key, value)]
        self.others = {
            str(number): key for number, (key, value) in enumerate(self.seen.items()) if not _can_be_typed(key, value)
        }
        base = signing.dumps(self.seen, salt=salt, compress=True)
        super().__init__(data, rows, initial={"base": base, "keep": list(self.others)})
        self.fields["keep"].choices = list(self.others.items())  # type: ignore[attr-defined]

    @property
    def kept_keys(self) -> list[str]:
        return [self.others[number] for number in self.cleaned_data.get("keep", ())]

    def patch(self) -> MetadataPatch:
        """The user's changes. Raises InvalidMetadata."""
        wanted = {key: self.seen[key] for key in self.kept_keys}
        wanted |= {row["key"]: row["value"] for row in self.typed}
        return MetadataPatch.parse(MetadataPatch.between(self.seen, wanted).as_merge_patch())

    @property
    def has_errors(self) -> bool:
        return self.is_outdated or super().has_errors


def _can_be_typed(key: str, value: object) -> bool:
    """Whether a browser would submit the pair unchanged. Browsers rewrite line breaks and lone surrogates."""
    return (
        isinstance(value, str) and is_text(key) and is_text(value) and not {"\r", "\n"} & set(key) and "\r" not in value
    )
