"""How an edit is undone: what it changed, back to what was there before, but for what was changed since."""

from collections.abc import Collection
from dataclasses import dataclass

from runsadmin.metadata import Metadata, MetadataPatch
from runsadmin.models import Edit


@dataclass(frozen=True)
class WayBack:
    """How to undo an edit: `patch` without the keys that were changed since, which are `left`."""

    whole: MetadataPatch
    left: frozenset[str]

    @property
    def patch(self) -> MetadataPatch:
        return self.whole.only(self.whole.keys - self.left)

    @property
    def detail(self) -> str:
        return _told(self.left)


def undoing(edit: Edit) -> WayBack:
    """What undoing an edit would do, as far as the mirror knows. The edit was applied, or differs."""
    assert edit.after is not None
    whole = _whole(edit)
    now, after = edit.run.metadata, edit.after
    return WayBack(whole, frozenset(key for key in whole.keys if now.get(key) != after.get(key)))


def skipped_keys_message(edit: Edit, result: Metadata) -> str:
    """What an edit that undoes another one leaves as it is, with this map as its result. Empty: nothing."""
    undone = edit.undoes
    if undone is None or undone.before is None:
        return ""
    before = undone.before
    return _told({key for key in _whole(undone).keys if result.get(key) != before.get(key)})


def _whole(edit: Edit) -> MetadataPatch:
    assert edit.before is not None
    assert edit.after is not None
    return MetadataPatch.between(edit.after, edit.before).only(edit.patch.keys)


def _told(left: Collection[str]) -> str:
    return f"Left as they are, since they were changed after the edit: {', '.join(sorted(left))}." if left else ""
