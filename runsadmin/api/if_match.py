"""The `If-Match` header (RFC 9110). Also recognizes entity tags that proxies or clients changed in transit."""

import re

from rest_framework.exceptions import ValidationError

from runsadmin.api.problems import ProblemError, ProblemType
from runsadmin.errors import StaleVersion

_TAG = re.compile(r'(?P<weak>W/)?"(?P<opaque>[^"]*)"', re.IGNORECASE)
# Servers that compress a response add the encoding to its tag: "7-3-gzip", "7-3;br", "7-3--gzip".
_ENCODED = re.compile(r"(?P<opaque>\d+-\d+)[-;:+.]{1,2}[a-z]{2,8}")
MAX_SHOWN = 100


def names_version(header: str, etag: str) -> bool:
    """Whether the header names the version with this (strong) tag. False for `*`, which names no version.

    Raises StaleVersion for another version, ProblemError for a tag that was changed in transit, and ValidationError for
    an invalid header.
    """
    if header.strip() == "*":
        return False
    parts = [part.strip() for part in header.split(",")]
    if etag in parts:
        return True
    tags = [tag for part in parts if (tag := _TAG.fullmatch(part))]
    if len(tags) < len([part for part in parts if part]) or not tags:
        raise ValidationError({"If-Match": _malformed(header.strip(), etag)}, code="invalid")
    for tag in tags:
        encoded = _ENCODED.fullmatch(tag["opaque"])
        if tag["weak"] or encoded:
            opaque = encoded["opaque"] if encoded else tag["opaque"]
            raise ProblemError(ProblemType.CHANGED_TAG, _changed_in_transit(tag, f'"{opaque}"', etag))
    raise StaleVersion(
        "The run has changed since you read it, so nothing was sent. Read it again and send its new ETag."
    )


def _malformed(header: str, etag: str) -> str:
    if not header:
        return "The header is empty. Send the ETag that you saw, or omit the header."
    return (
        f"{header[:MAX_SHOWN]} is not a valid If-Match header. "
        f"Send the ETag as you received it, with its double quotes: {etag}. `*` cannot be combined with ETags."
    )


def _changed_in_transit(tag: re.Match[str], original: str, etag: str) -> str:
    how = "weakened" if tag["weak"] else "changed"
    shown = tag[0][:MAX_SHOWN]
    cause = f"Nothing was changed: a proxy {how} the ETag to {shown}, so it no longer identifies a version."
    if original != etag:
        return f"{cause} The run has changed as well: read it again."
    return f"{cause} Send {original} instead, or configure the proxy to keep ETags when it compresses responses."
