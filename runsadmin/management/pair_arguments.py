"""Pairs on a command line: `--set team=search --remove old --rename owner=lead`."""

from collections.abc import Iterable

from runsadmin.bulk_patch import BulkPatch
from runsadmin.errors import InvalidMetadata, MetadataError
from runsadmin.metadata import MetadataPatch

_PAST_TENSE = {"set": "set", "rename": "renamed"}


def parse(to_set: Iterable[str], to_remove: Iterable[str]) -> MetadataPatch:
    """Splits each pair at the first `=`, since a value may contain more. Raises InvalidMetadata with every error."""
    errors: list[MetadataError] = []
    wanted: dict[str, str | None] = {**_split(to_set, "set", "KEY=VALUE", errors)}
    for key in dict.fromkeys(to_remove):
        if error := _file_artifact(key):
            errors.append(error)
        elif key in wanted:
            errors.append(MetadataError(key, "set_and_removed", f"The key {key!r} is both set and removed."))
        else:
            wanted[key] = None
    try:
        patch = MetadataPatch.parse(wanted)
    except InvalidMetadata as invalid:
        errors += invalid.errors
    if errors:
        raise InvalidMetadata(errors)
    return patch


def parse_bulk(to_set: Iterable[str], to_remove: Iterable[str], to_rename: Iterable[str]) -> BulkPatch:
    """Parses a bulk patch, whose values may be templates. Raises InvalidMetadata with every error."""
    to_remove = list(dict.fromkeys(to_remove))
    errors = [error for key in to_remove if (error := _file_artifact(key))]
    patch = BulkPatch(
        _split(to_set, "set", "KEY=VALUE", errors),
        to_remove,
        _split(to_rename, "rename", "OLD=NEW", errors),
    )
    if errors:
        raise InvalidMetadata(errors)
    patch.check()
    return patch


def _split(texts: Iterable[str], option: str, form: str, errors: list[MetadataError]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if error := _file_artifact(text):
            errors.append(error)
        elif not separator:
            errors.append(MetadataError(text, "no_equals_sign", f"{text!r} is not a pair. Use --{option} {form}."))
        elif key in found:
            errors.append(MetadataError(key, f"{option}_twice", f"The key {key!r} is {_PAST_TENSE[option]} twice."))
        else:
            found[key] = value
    return found


def _file_artifact(text: str) -> MetadataError | None:
    """Detects invisible leftovers in an argument that a script read from a Windows file."""
    if text.endswith("\r"):
        return MetadataError(
            text, "line_end", f"{text!r} ends with a carriage return (a Windows line ending). Remove it."
        )
    if text.startswith("\ufeff"):
        return MetadataError(text, "byte_order_mark", f"{text!r} begins with a byte order mark. Remove it.")
    return None
