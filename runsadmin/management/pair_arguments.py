"""Pairs on a command line: `--set team=search --remove old --rename owner=lead`."""

from collections.abc import Iterable

from runsadmin.bulk_patch import BulkPatch
from runsadmin.errors import InvalidMetadata, MetadataError
from runsadmin.metadata import MetadataPatch

_DONE = {"set": "set", "rename": "renamed"}


def parse(to_set: Iterable[str], to_remove: Iterable[str]) -> MetadataPatch:
    """The first `=` splits, so that a value may hold more of them. Raises InvalidMetadata that tells every mistake."""
    problems: list[MetadataError] = []
    wanted: dict[str, str | None] = {**_split(to_set, "set", "KEY=VALUE", problems)}
    for key in dict.fromkeys(to_remove):
        if problem := _left_by_a_file(key):
            problems.append(problem)
        elif key in wanted:
            problems.append(MetadataError(key, "set_and_removed", f"The key {key!r} is both set and removed."))
        else:
            wanted[key] = None
    try:
        patch = MetadataPatch.parse(wanted)
    except InvalidMetadata as error:
        raise InvalidMetadata([*problems, *error.problems]) from None
    if problems:
        raise InvalidMetadata(problems)
    return patch


def parse_bulk(to_set: Iterable[str], to_remove: Iterable[str], to_rename: Iterable[str]) -> BulkPatch:
    """For many runs: values may be templates. Raises InvalidMetadata that tells every mistake."""
    to_remove = list(dict.fromkeys(to_remove))
    problems = [problem for key in to_remove if (problem := _left_by_a_file(key))]
    patch = BulkPatch(
        _split(to_set, "set", "KEY=VALUE", problems),
        to_remove,
        _split(to_rename, "rename", "OLD=NEW", problems),
    )
    if problems:
        raise InvalidMetadata(problems)
    patch.check()
    return patch


def _split(texts: Iterable[str], option: str, form: str, problems: list[MetadataError]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if problem := _left_by_a_file(text):
            problems.append(problem)
        elif not sign:
            problems.append(MetadataError(text, "no_equals_sign", f"{text!r} is no pair: write --{option} {form}."))
        elif key in found:
            problems.append(MetadataError(key, f"{option}_twice", f"The key {key!r} is {_DONE[option]} twice."))
        else:
            found[key] = value
    return found


def _left_by_a_file(text: str) -> MetadataError | None:
    """What a script left that read the argument from a file of Windows: nobody types it, and nobody would see it."""
    if text.endswith("\r"):
        return MetadataError(
            text, "line_end", f"{text!r} ends with a carriage return, as lines of Windows do. Remove it."
        )
    if text.startswith("\ufeff"):
        return MetadataError(text, "byte_order_mark", f"{text!r} begins with a byte order mark. Remove it.")
    return None
