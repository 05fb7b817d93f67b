from django.db import models

from runsadmin.models.fields import CleanTextField

# So many of our own last writes have to be shown by lists at once before lists replace a GET of each run.
FRESH_LIST_ITEMS = 20


class ConnectionState(models.Model):
    """What all processes share about a connection: whether it is held, and how fast it may be called.

    Its configuration, and its secrets above all, stay in the settings.
    """

    class Hold(models.TextChoices):
        NONE = "", "Not held"
        CREDENTIALS = "credentials", "The credentials are refused"
        NOT_FOUND = "not_found", "Everything answers 404"
        UNREACHABLE = "unreachable", "The server does not respond"
        REDIRECTED = "redirected", "The server redirects"
        WRITING = "writing", "Writing is refused"
        RETIRED = "retired", "The service is gone"
        OPERATOR = "operator", "Held by an operator"

    alias = models.CharField(max_length=64, primary_key=True)
    hold = models.CharField(max_length=16, choices=Hold.choices, default=Hold.NONE, blank=True)
    hold_detail = CleanTextField(blank=True)
    held_since = models.DateTimeField(null=True)
    next_probe_at = models.DateTimeField(null=True, help_text="When a held connection is tried again by itself.")

    # 429 and 503 slow the whole connection: nothing is sent before this time.
    not_before = models.DateTimeField(null=True)
    # Lists may be read from a replica that lags behind. They replace a GET of each run only while they are known to be
    # as fresh: `fresh_list_items` counts our own last writes that a list showed at once, up to as many as prove it.
    fresh_list_items = models.PositiveSmallIntegerField(default=0)
    stale_list_at = models.DateTimeField(null=True, help_text="When a list showed a run older than it was.")
    stale_list_detail = CleanTextField(blank=True)
    # What is known of its paging.
    largest_page = models.PositiveSmallIntegerField(default=0, help_text="The most runs that one page has shown.")
    has_more_is_wrong = models.BooleanField(
        default=False, help_text="A page said that it was the last one, and there was more."
    )
    oldest_first = models.BooleanField(
        default=False, help_text="Pages are read oldest first, since `after` is wrong when the newest come first."
    )
    # Where the next free place is, in each lane: one for people's single edits, one for everything else.
    interactive_free_at = models.DateTimeField(null=True)
    background_free_at = models.DateTimeField(null=True)

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

    @property
    def lists_are_proven(self) -> bool:
        return self.stale_list_at is None and self.fresh_list_items >= FRESH_LIST_ITEMS
