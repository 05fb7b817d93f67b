from django.conf import settings


def max_body_size(path: str) -> int:
    """The maximum size of a request body at this path, in bytes."""
    size: int = settings.MAX_BODY_SIZE_BY_PATH.get(path, settings.MAX_BODY_SIZE)
    return size
