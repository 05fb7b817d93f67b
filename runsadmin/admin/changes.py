"""What an edit changes, per key, for display."""

from collections.abc import Mapping
from dataclasses import dataclass

from runsadmin.models import Edit, EditStatus
from runsadmin.services import edits


@dataclass(frozen=True)
class Change:
    """A key before and after an edit; None means absent. `differs`: upstream returned a value that was not intended."""

    key: str
    old: object
    new: object
    intended: object = None
    differs: bool = False
    is_seen: bool = True  # Whether the old value is known.
    is_touched: bool = True  # Whether the edit sets or removes this key.

    @property
    def is_same(self) -> bool:
        return self.is_seen and self.old == self.new


def of(edit: Edit) -> list[Change]:
    """The changes that an edit made, as far as known; otherwise those that it intends."""
    before = edit.base if edit.before is None else edit.before
    start: Mapping[str, object] = before or {}
    intended: Mapping[str, object] = edit.patch.apply(start) if edit.intended is None else edit.intended
    is_known = edit.status != EditStatus.CONFLICT and edit.after is not None
    after: Mapping[str, object] = (edit.after if is_known else intended) or {}
    touched = edit.patch.keys
    return [
        Change(
            key=key,
            old=start.get(key),
            new=after.get(key),
            intended=intended.get(key),
            differs=intended.get(key) != after.get(key),
            is_seen=before is not None,
            is_touched=key in touched,
        )
        for key in dict.fromkeys([*start, *intended, *after])
        if start.get(key) != after.get(key) or intended.get(key) != after.get(key) or key in touched
    ]


def is_not_made(edit: Edit) -> bool:
    """Whether the edit has ended without its changes. Not after a conflict, since they may still be made."""
    return edit.status in (EditStatus.SKIPPED, EditStatus.CANCELLED, EditStatus.REJECTED, EditStatus.FAILED)


def of_planned(edit: Edit) -> list[Change]:
    """Like `of`, but empty for a run that the bulk edit skips."""
    return [] if edit.status == EditStatus.SKIPPED else of(edit)


@dataclass(frozen=True)
class KeyUndo:
    """What an undo does to one key: `current` becomes `restored`. Skipped if the key was changed since the edit."""

    key: str
    current: object
    restored: object
    is_skipped: bool


def undoing(edit: Edit) -> list[KeyUndo]:
    """What an undo would do, as far as the mirror knows. The service decides again when the undo is recorded.

    Keys that already have their old value are left out.
    """
    undo, before, now = edits.undo_patch(edit), edit.before or {}, edit.run.metadata
    keys = sorted(undo.whole.keys - undo.reverted)
    return [KeyUndo(key, now.get(key), before.get(key), key in undo.skipped) for key in keys]
