from django.conf import settings
from django.db import models


class ApiRateState(models.Model):
    """How much of its REST API rate limit an account has used, across all tokens and processes."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="+")
    free_at = models.DateTimeField(help_text="When the requests made so far stop counting against the rate limit.")

    def __str__(self) -> str:
        return f"the API rate of account {self.pk}"
