"""Handles servers that change what is sent to them: which keys were returned with other values, and what that means.

A changed key that the patch touches is shown with its edit. One that the patch does not touch may be someone else's
data, so a bulk edit pauses at the first such key, and a user decides whether to continue.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.db.models import BooleanField, ExpressionWrapper, Q

from runsadmin import lenient_json
from runsadmin.metadata import Metadata, differing_keys
from runsadmin.models import Edit
from runsadmin.text import clean

KEYS_NAMED = 8
LONGEST_VALUE = 40

# Resuming a bulk edit accepts rewrites if there have been any, since its page shows them.
ACCEPTED = ExpressionWrapper(Q(rewrites_seen_at__isnull=False), output_field=BooleanField())


@dataclass(frozen=True)
class Rewrite:
    """The keys that were returned with values other than those sent: those that the patch touches, and all others."""

    touched: tuple[str, ...]
    untouched: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.touched or self.untouched)


def of(edit: Edit, intended: Metadata, after: Metadata) -> Rewrite:
    if after == intended:
        return Rewrite((), ())
    keys = differing_keys(intended, after)
    touched = edit.patch.keys
    return Rewrite(tuple(key for key in keys if key in touched), tuple(key for key in keys if key not in touched))


def detail(rewrite: Rewrite) -> str:
    """The detail of an edit whose write was rewritten. Empty if it was not."""
    sentences = []
    if rewrite.touched:
        sentences.append(f"Upstream returned values other than those sent for {_named(rewrite.touched)}.")
    if rewrite.untouched:
        sentences.append(f"Upstream changed keys that this edit does not touch: {_named(rewrite.untouched)}.")
    return " ".join(sentences)


def changed_since(rewrite: Rewrite) -> str:
    """The detail of an edit whose response was lost: upstream rewrote these keys, or another client changed them."""
    keys = rewrite.untouched
    return f"Keys that this edit does not touch have values other than those sent: {_named(keys)}." if keys else ""


def pauses(edit: Edit, rewrite: Rewrite) -> bool:
    """Whether the bulk edit of this edit must pause."""
    return bool(rewrite.untouched) and edit.bulk_edit is not None and not edit.bulk_edit.accepts_rewrites


def why_paused(edit: Edit, rewrite: Rewrite, intended: Mapping[str, object], after: Mapping[str, object]) -> str:
    """The detail of the bulk edit: what happened, with an example, and what to do. Empty if it goes on."""
    if not pauses(edit, rewrite):
        return ""
    key = rewrite.untouched[0]
    return (
        f"Upstream changed keys that the edit did not touch ({_named(rewrite.untouched)}) on {edit.run.upstream_id}: "
        f"{_short(key)} was sent as {_shown(intended.get(key))} and returned as {_shown(after.get(key))}. "
        "Check it, then resume (such changes are accepted from then on) or cancel."
    )


def _named(keys: Iterable[str]) -> str:
    keys = [*keys]
    more = f" and {len(keys) - KEYS_NAMED} more" if len(keys) > KEYS_NAMED else ""
    return ", ".join(_short(key) for key in keys[:KEYS_NAMED]) + more


def _shown(value: object) -> str:
    return "nothing" if value is None else _short(repr(value) if isinstance(value, str) else lenient_json.dumps(value))


def _short(text: str) -> str:
    return clean(text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…")
