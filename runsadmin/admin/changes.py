"""What an edit changes, laid out per key for reading."""

from collections.abc import Mapping
from dataclasses import dataclass

from runsadmin.models import Edit, EditStatus
from runsadmin.services import edits


@dataclass(frozen=True)
class Change:
    """A key before and after. None: it was not there. `asked` is what we asked for where upstream made it another."""

    key: str
    old: object
    new: object
    asked: object = None
    differs: bool = False
    is_seen: bool = True  # Whether anybody has looked what was there before.
    is_touched: bool = True  # Whether the edit is about this key.

    @property
    def is_same(self) -> bool:
        return self.is_seen and self.old == self.new


def of(edit: Edit) -> list[Change]:
    """What came of an edit where that is known; what it intends otherwise."""
    before = edit.base if edit.before is None else edit.before
    start: Mapping[str, object] = before or {}
    intended: Mapping[str, object] = edit.patch.apply(start) if edit.intended is None else edit.intended
    known = edit.after is not None and edit.status != EditStatus.CONFLICT
    after: Mapping[str, object] = edit.after if known and edit.after is not None else intended
    shown = [
        key
        for key in dict.fromkeys([*start, *intended, *after])
        if start.get(key) != after.get(key) or intended.get(key) != after.get(key) or key in edit.patch.keys
    ]
    return [
        Change(
            key=key,
            old=start.get(key),
            new=after.get(key),
            asked=intended.get(key),
            differs=intended.get(key) != after.get(key),
            is_seen=before is not None,
            is_touched=key in edit.patch.keys,
        )
        for key in shown
    ]


def of_planned(edit: Edit) -> list[Change]:
    """As `of`; but nothing changes of a run that its bulk edit leaves out."""
    return [] if edit.status == EditStatus.SKIPPED else of(edit)


@dataclass(frozen=True)
class PutBack:
    """What undoing does to one key: `now` becomes `then`, unless it was changed since the edit."""

    key: str
    now: object
    then: object
    is_left: bool


def undoing(edit: Edit) -> list[PutBack]:
    """What undoing an edit would do, as far as the mirror knows. The service decides when it is done."""
    undo, before, now = edits.undo_patch(edit), edit.before or {}, edit.run.metadata
    return [PutBack(key, now.get(key), before.get(key), key in undo.skipped) for key in sorted(undo.whole.keys)]
