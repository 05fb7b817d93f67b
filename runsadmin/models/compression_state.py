from django.db import models


class CompressionState(models.Model):
    """How far the runs that version 0.1.0 stored have been compressed. Without a row, all of them have been."""

    done = models.BigIntegerField(default=0, help_text="The primary key of the last run that was compressed.")
    last = models.BigIntegerField(help_text="The primary key of the last run that is to be compressed.")

    def __str__(self) -> str:
        return f"{self.done} of {self.last}"
