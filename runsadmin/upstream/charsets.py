"""In what encoding a response is."""

import codecs
import re
from functools import lru_cache

_NAMED = re.compile(r"charset\s*=\s*[\"']?\s*([\w.:+-]{1,40})", re.IGNORECASE)
# They are for names and source code, and some take quadratic time.
_NO_CHARSETS = {"idna", "punycode", "unicode_escape", "raw_unicode_escape"}
# These are UTF-8 as well, or a part of it.
_UTF_8 = {"ascii", "utf-8-sig"}


@lru_cache(maxsize=64)
def of(content_type: str) -> str:
    """The encoding that the Content-Type names. UTF-8 where it names none, or none that is known."""
    if named := _NAMED.search(content_type):
        try:
            codec = codecs.lookup(named[1])
        except (LookupError, ValueError):
            return "utf-8"
        if codec.name not in _NO_CHARSETS | _UTF_8 and _is_of_text(codec.name):
            return codec.name
    return "utf-8"


def _is_of_text(name: str) -> bool:
    """Python has codecs from bytes to bytes as well."""
    try:
        b"{}".decode(name)
    except LookupError:
        return False
    except ValueError:  # Two bytes are too few for some.
        return True
    return True
