from django.db import models


class ConnectionState(models.Model):
    """What all processes share about a connection: whether it is held, and how fast it may be called.

    Its configuration, and its secrets above all, stay in the settings.
    """

    class Hold(models.TextChoices):
        NONE = "", "Not held"
        CREDENTIALS = "credentials", "The credentials are refused"
        NOT_FOUND = "not_found", "Everything answers 404"
        RETIRED = "retired", "The service is gone"
        OPERATOR = "operator", "Held by an operator"

    alias = models.CharField(max_length=64, primary_key=True)
    hold = models.CharField(max_length=16, choices=Hold.choices, default=Hold.NONE, blank=True)
    hold_detail = models.TextField(blank=True)
    held_since = models.DateTimeField(null=True)
    next_probe_at = models.DateTimeField(null=True, help_text="When a held connection is tried again by itself.")

    # 429 and 503 slow the whole connection: nothing is sent before this time.
    not_before = models.DateTimeField(null=True)
    # Where the next free place is, in each lane: one for people's single edits, one for everything else.
    people_free_at = models.DateTimeField(null=True)
    work_free_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(hold="", held_since__isnull=True)
                | models.Q(~models.Q(hold=""), held_since__isnull=False),
                name="connection_held_since",
            ),
        ]

    def __str__(self) -> str:
        return self.alias
