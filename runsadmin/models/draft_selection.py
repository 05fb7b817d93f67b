from array import array
from collections.abc import Sequence

from django.conf import settings
from django.db import models

from runsadmin.models.bulk_edit import SelectionSnapshot
from runsadmin.models.fields import CleanTextField


class DraftSelection(models.Model):
    """Runs that someone selected for a bulk edit, frozen until it is planned."""

    actor = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    connection = models.CharField(max_length=64)
    query = CleanTextField(blank=True, help_text="The search that found the runs. Empty: they were ticked.")
    packed = models.BinaryField(help_text="Keys of runs, in the order in which they are planned.")
    not_selected = models.JSONField(default=list, help_text="What was ticked and no longer exists: id and reason.")

    def __str__(self) -> str:
        return f"draft selection {self.pk}"

    @property
    def keys(self) -> Sequence[int]:
        unpacked = array("q")
        unpacked.frombytes(bytes(self.packed))
        return unpacked

    @staticmethod
    def pack(keys: Sequence[int]) -> bytes:
        return SelectionSnapshot.pack(keys)
