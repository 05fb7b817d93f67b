from django.conf import settings
from django.db import models
from django.db.models import Q

from runsadmin.models.bulk_edit import BulkEdit
from runsadmin.models.edit import Edit


class IdempotencyKey(models.Model):
    """Records which edit or bulk edit a request with this key created. Kept for a day."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    endpoint = models.CharField(max_length=200)
    key = models.CharField(max_length=200)
    body_digest = models.CharField(max_length=64)
    edit = models.ForeignKey(Edit, on_delete=models.CASCADE, null=True, related_name="+")
    bulk_edit = models.ForeignKey(BulkEdit, on_delete=models.CASCADE, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "endpoint", "key"], name="idempotency_key_once"),
            models.CheckConstraint(
                condition=Q(edit__isnull=False, bulk_edit__isnull=True) | Q(edit__isnull=True, bulk_edit__isnull=False),
                name="idempotency_key_of_one_thing",
            ),
        ]

    def __str__(self) -> str:
        return self.key
