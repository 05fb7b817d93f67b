import hashlib

from django.db import models


class SharedText(models.Model):
    """Text that the JSON of several runs has in common, such as the instructions and tools of an assistant.

    It is the dictionary with which that JSON is compressed (`stored_json`), so it never changes.
    """

    key = models.BigIntegerField(primary_key=True, help_text="64 bits of a hash of the text.")
    text = models.TextField()

    def __str__(self) -> str:
        return f"{self.text[:80]}…"


def key_of(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), signed=True)
