from django.db import models

from runsadmin.models.fields import CleanCharField

MAX_NAME_LENGTH = 100


class TokenDetails(models.Model):
    """What knox does not store about an API token. A token without a name that was never used may have none."""

    token = models.OneToOneField("knox.AuthToken", on_delete=models.CASCADE, primary_key=True, related_name="details")
    name = CleanCharField(max_length=MAX_NAME_LENGTH, blank=True, help_text="What the token is for.")
    last_used_on = models.DateField(null=True, blank=True, help_text="The last day, in UTC, on which it was used.")

    class Meta:
        verbose_name_plural = "token details"

    def __str__(self) -> str:
        return str(self.name)
