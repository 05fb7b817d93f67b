"""How much of a request is read."""

from django.conf import settings


def largest(path: str) -> int:
    """How many bytes a body may have at this path."""
    size: int = settings.LARGER_BODIES.get(path, settings.LARGEST_BODY)
    return size
