"""The encoding of a response."""

import codecs
import re
from functools import lru_cache

_NAMED = re.compile(r"charset\s*=\s*[\"']?\s*([\w.:+-]{1,40})", re.IGNORECASE)
# Codecs for names and source code; some take quadratic time.
_NO_CHARSETS = {"idna", "punycode", "unicode_escape", "raw_unicode_escape"}
# These are UTF-8 as well, or a part of it.
_UTF_8 = {"ascii", "utf-8-sig"}


@lru_cache(maxsize=64)
def of(content_type: str) -> str:
    """The encoding that the Content-Type names. UTF-8 if it names none or an unknown one."""
    if named := _NAMED.search(content_type):
        try:
            codec = codecs.lookup(named[1])
        except (LookupError, ValueError):
            return "utf-8"
        if codec.name not in _NO_CHARSETS | _UTF_8 and _is_of_text(codec.name):
            return codec.name
    return "utf-8"


def _is_of_text(name: str) -> bool:
    """Whether the codec produces text: Python also has codecs from bytes to bytes."""
    try:
        b"{}".decode(name)
    except LookupError:
        return False
    except ValueError:  # Some encodings need more than two bytes.
        return True
    return True
