from django.db import models

from runsadmin import conf
from runsadmin.models.fields import ByteOrderedCharField, CompactDateTimeField


class Thread(models.Model):
    """A thread whose runs are mirrored. The API cannot list threads, so users and tools add them."""

    connection = models.CharField(max_length=64)
    upstream_id = ByteOrderedCharField("thread id", max_length=128)
    tracked = models.BooleanField(
        default=True, help_text="Whether syncs read this thread. If not, its mirrored runs stay as they are."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    # Written by syncs. The watermark moves only when a pass reaches the old one or the end of the list.
    watermark = ByteOrderedCharField(
        max_length=128, blank=True, default="", help_text="The newest known run. Incremental syncs read down to it."
    )
    checked_at = models.DateTimeField(
        "checked", null=True, blank=True, help_text="When a sync last finished this thread."
    )
    fully_checked_at = models.DateTimeField(
        "fully checked", null=True, blank=True, help_text="When all of its runs were last read."
    )
    # The rows of unchanged runs are not updated. These two fields say when the newest runs were last listed, and how
    # far back the list went.
    listed_at = models.DateTimeField(null=True, blank=True, help_text="When its newest runs were last listed.")
    listed_from = CompactDateTimeField(
        null=True, blank=True, help_text="That list showed every run that was created at this time or later."
    )
    missing_since = models.DateTimeField(
        null=True, blank=True, help_text="When upstream was found to no longer have the thread."
    )

    class Meta:
        constraints = [models.UniqueConstraint(fields=["connection", "upstream_id"], name="thread_once_per_connection")]
        indexes = [
            models.Index(
                fields=["connection", "fully_checked_at"], condition=models.Q(tracked=True), name="thread_oldest_check"
            ),
            models.Index(fields=["-created_at", "-id"], name="thread_newest"),
            models.Index(fields=["upstream_id"], name="thread_by_upstream_id"),
        ]

    def __str__(self) -> str:
        return str(self.upstream_id)

    @property
    def connection_settings(self) -> conf.Connection:
        """Raises UnknownConnection."""
        return conf.connection(self.connection)
