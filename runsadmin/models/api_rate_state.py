from django.conf import settings
from django.db import models


class ApiRateState(models.Model):
    """How much of its pace an account has used in the REST API, over all its tokens and all our processes."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="+")
    free_at = models.DateTimeField(help_text="When all that was asked so far is paid for, at the account's pace.")

    def __str__(self) -> str:
        return f"the quota of account {self.pk}"
