from django.db import models

from runsadmin.models.fields import CleanTextField

# Lists replace a GET of each run only after they have immediately shown this many of our own writes.
FRESH_LIST_ITEMS = 20


class ConnectionState(models.Model):
    """The state of a connection that all processes share: whether it is held, and how fast it may be called.

    Its configuration, secrets included, stays in the settings.
    """

    class Hold(models.TextChoices):
        NONE = "", "Not held"
        CREDENTIALS = "credentials", "The credentials are refused"
        NOT_FOUND = "not_found", "Everything returns 404"
        UNREACHABLE = "unreachable", "The server does not respond"
        REDIRECTED = "redirected", "The server redirects"
        WRITING = "writing", "Writing is refused"
        RETIRED = "retired", "The service is gone"
        OPERATOR = "operator", "Held by an operator"

    alias = models.CharField(max_length=64, primary_key=True)
    hold = models.CharField(max_length=16, choices=Hold.choices, default=Hold.NONE, blank=True)
    hold_detail = CleanTextField(blank=True)
    held_since = models.DateTimeField(null=True)
    next_probe_at = models.DateTimeField(null=True, help_text="When a held connection is probed next.")

    # Independent of a hold, which may be released automatically.
    restored_from = models.DateTimeField(
        null=True, help_text="When the backup was made that was restored. Nothing is sent until a user releases it."
    )

    # A 429 or 503 applies to the whole connection: nothing is sent before this time.
    not_before = models.DateTimeField(null=True)
    # None if no edit waits for another write. On SQLite, a query for such edits would read all pending edits.
    refused_at = models.DateTimeField(
        null=True, help_text="When an edit was last refused with a 403 and started to wait for another write."
    )
    # A server may serve lists from a lagging replica. Lists replace a GET of each run only once they are known to be
    # fresh: `fresh_list_items` counts our own writes that a list showed immediately, up to FRESH_LIST_ITEMS.
    fresh_list_items = models.PositiveSmallIntegerField(default=0)
    stale_list_at = models.DateTimeField(null=True, help_text="When a list showed an outdated version of a run.")
    stale_list_detail = CleanTextField(blank=True)
    # What is known about how the server divides lists into pages.
    largest_page = models.PositiveSmallIntegerField(default=0, help_text="The most runs on one page so far.")
    has_more_is_wrong = models.BooleanField(
        default=False, help_text="Whether a page claimed to be the last one although more followed."
    )
    oldest_first = models.BooleanField(
        default=False,
        help_text="Whether lists are read oldest first, because `after` returns wrong pages when they are read newest "
        "first.",
    )
    # When the rate limit allows the next interactive and the next background request.
    interactive_free_at = models.DateTimeField(null=True)
    background_free_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = "connection"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(hold="", held_since__isnull=True)
                | models.Q(~models.Q(hold=""), held_since__isnull=False),
                name="connection_held_since",
            ),
        ]

    def __str__(self) -> str:
        return self.alias

    @property
    def only_writing_is_held(self) -> bool:
        """Whether requests that only read may be sent, and nothing else."""
        is_readable = self.hold in (self.Hold.NONE, self.Hold.WRITING)
        return is_readable and (self.hold == self.Hold.WRITING or self.restored_from is not None)

    @property
    def lists_are_proven(self) -> bool:
        return self.stale_list_at is None and self.fresh_list_items >= FRESH_LIST_ITEMS
