from django.conf import settings
from django.db import models

from runsadmin.models.edit import Edit


class IdempotencyKey(models.Model):
    """Says that a request with this key was already recorded, and as which edit. Kept for a day."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    endpoint = models.CharField(max_length=200)
    key = models.CharField(max_length=200)
    body_digest = models.CharField(max_length=64)
    edit = models.ForeignKey(Edit, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "endpoint", "key"], name="idempotency_key_once")]

    def __str__(self) -> str:
        return self.key
