"""The header `If-Match` of RFC 9110, and what proxies and clients make of it on the way."""

import re

from rest_framework.exceptions import ValidationError

from runsadmin.api.problems import ProblemType, Refused
from runsadmin.errors import StaleVersion

_TAG = re.compile(r'(?P<weak>W/)?"(?P<opaque>[^"]*)"', re.IGNORECASE)
# Servers that compress a response add the encoding to its tag: "7-3-gzip", "7-3;br", "7-3--gzip".
_ENCODED = re.compile(r"(?P<opaque>\d+-\d+)[-;:+.]{1,2}[a-z]{2,8}")
SHOWN = 100


def names_version(header: str, etag: str) -> bool:
    """Whether the header names the version with this (strong) tag; false where it is `*`, which names none.

    Raises StaleVersion; Refused where the tag was changed on the way; ValidationError where the header has no tags.
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
            raise Refused(ProblemType.CHANGED_TAG, _changed(tag, f'"{opaque}"', etag))
    raise StaleVersion(
        "The run was written since you read it, so nothing was changed. Read it again, and send its new ETag."
    )


def _malformed(header: str, etag: str) -> str:
    if not header:
        return "The header is empty. Send the ETag that you saw, or leave the header out."
    return (
        f"{header[:SHOWN]} is no tag: a tag stands in double quotes. "
        f"Send the ETag as it came, with its quotes, as in {etag}; `*` stands alone."
    )


def _changed(tag: re.Match[str], original: str, etag: str) -> str:
    how = "weakened" if tag["weak"] else "changed"
    shown = tag[0][:SHOWN]
    cause = f"A proxy {how} the ETag to {shown}, as those do that compress responses, so it cannot vouch for a version."
    if original != etag:
        return f"{cause} It is not of the version that is here now either: read the run again. Nothing was changed."
    return f"{cause} Nothing was changed. Send {original} instead, or have the proxy leave ETags as they are."
