"""Pairs on a command line: `--set team=search --remove old`."""

from collections.abc import Iterable

from runsadmin.errors import InvalidMetadata, Problem
from runsadmin.metadata import MetadataPatch


def parse(to_set: Iterable[str], to_remove: Iterable[str]) -> MetadataPatch:
    """The first `=` splits, so that a value may hold more of them. Raises InvalidMetadata that tells every mistake."""
    wanted: dict[str, str | None] = {}
    problems: list[Problem] = []
    for text in to_set:
        key, sign, value = text.partition("=")
        if not sign:
            problems.append(Problem(text, "no_equals_sign", f"{text!r} is no pair: write --set KEY=VALUE."))
        elif key in wanted:
            problems.append(Problem(key, "set_twice", f"The key {key!r} is set twice."))
        else:
            wanted[key] = value
    for key in dict.fromkeys(to_remove):
        if key in wanted:
            problems.append(Problem(key, "set_and_removed", f"The key {key!r} is both set and removed."))
        else:
            wanted[key] = None
    try:
        patch = MetadataPatch.parse(wanted)
    except InvalidMetadata as error:
        raise InvalidMetadata([*problems, *error.problems]) from None
    if problems:
        raise InvalidMetadata(problems)
    return patch
