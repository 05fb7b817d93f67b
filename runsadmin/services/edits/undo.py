"""Undoing an edit: the values that it changed are restored, unless they have been changed since."""

from collections.abc import Collection
from dataclasses import dataclass

from runsadmin.metadata import Metadata, MetadataPatch
from runsadmin.models import Edit


@dataclass(frozen=True)
class UndoPatch:
    """`whole` reverts the edit. `patch` leaves out the keys that already have their old value, and the `skipped` ones.

    The skipped keys have been changed since the edit. `undone` is the patch of the edit that is undone.
    """

    whole: MetadataPatch
    undone: MetadataPatch
    skipped: frozenset[str] = frozenset()
    reverted: frozenset[str] = frozenset()

    @property
    def patch(self) -> MetadataPatch:
        return self.whole.without(self.skipped | self.reverted)

    @property
    def recorded(self) -> MetadataPatch:
        """The patch of an undo, even of one that is skipped: an edit without a patch would count as purged."""
        return self.patch or self.whole or self.undone

    @property
    def detail(self) -> str:
        return _skipped_message(self.skipped)


def undo_patch(edit: Edit) -> UndoPatch:
    """What an undo would change, as far as the mirror knows. The edit's status must be applied or differs."""
    if edit.after is None or edit.before is None:  # They were purged.
        return UndoPatch(MetadataPatch(), edit.patch)
    whole = MetadataPatch.between(edit.after, edit.before).only(edit.patch.keys)
    now, before, after = edit.run.metadata, edit.before, edit.after
    reverted = frozenset(key for key in whole.keys if now.get(key) == before.get(key))
    changed = frozenset(key for key in whole.keys if now.get(key) != after.get(key))
    return UndoPatch(whole, edit.patch, changed - reverted, reverted)


def skipped_keys_message(edit: Edit | None, result: Metadata) -> str:
    """A message that names the keys that an undo of `edit` leaves as they are. `result` is the map after the undo.

    Empty if there are none, or if `edit` is None.
    """
    if edit is None or edit.before is None or edit.after is None:
        return ""
    return _skipped_message(
        {key for key in edit.patch.keys if edit.after.get(key) != edit.before.get(key) != result.get(key)}
    )


def _skipped_message(keys: Collection[str]) -> str:
    return f"Left as they are, since they were changed after the edit: {', '.join(sorted(keys))}." if keys else ""
