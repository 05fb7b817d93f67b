"""The form that resolves the conflict of an edit."""

from collections.abc import Iterator
from contextlib import contextmanager

from django import forms
from django.http import QueryDict

from runsadmin.admin.row_forms import REASON_WIDGET, TypedText
from runsadmin.errors import InvalidMetadata
from runsadmin.metadata import MetadataPatch
from runsadmin.models import Edit
from runsadmin.services import edits


class ChoiceForm(forms.Form):
    """The choice for one key in conflict."""

    take = forms.ChoiceField(
        choices=[("theirs", "Theirs"), ("mine", "Mine"), ("other", "Another")],
        error_messages=dict.fromkeys(("required", "invalid_choice"), "Choose a value."),
    )
    other = TypedText(required=False, widget=forms.Textarea({"rows": 1, "dir": "auto", "aria-label": "Another value"}))


class ConflictForm(forms.Form):
    """Theirs, mine or another value, for each key in conflict."""

    reason = forms.CharField(required=False, widget=REASON_WIDGET)

    def __init__(self, edit: Edit, data: QueryDict | None = None) -> None:
        super().__init__(data, initial={"reason": edit.reason}, auto_id="")
        self.edit = edit
        self.choices = [
            (conflict, ChoiceForm(data, prefix=str(number), auto_id=""))
            for number, conflict in enumerate(edits.conflicts(edit))
        ]

    def is_valid(self) -> bool:
        return super().is_valid() and all(choice.is_valid() for _, choice in self.choices)

    def patch(self) -> MetadataPatch:
        """The edit's patch with these choices. Raises InvalidMetadata."""
        wanted = self.edit.patch.as_merge_patch()
        for conflict, choice in self.choices:
            match choice.cleaned_data["take"]:
                case "theirs":
                    del wanted[conflict.key]
                case "other":
                    wanted[conflict.key] = choice.cleaned_data["other"]
        return MetadataPatch.parse(wanted)

    @contextmanager
    def showing_errors(self) -> Iterator[None]:
        choices: dict[str | None, forms.Form] = {conflict.key: choice for conflict, choice in self.choices}
        try:
            yield
        except InvalidMetadata as invalid:
            for error in invalid.errors:
                choices.get(error.key, self).add_error(None, error.message)
