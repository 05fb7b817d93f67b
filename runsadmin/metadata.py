"""Metadata as a value: maps, patches and the three-way merge. No Django, no I/O.

The limits are the API's own: at most 16 pairs, with keys of up to 64 and values of up to 512 characters (not bytes).
Keys and values are strings. Only what our users write is validated. Maps from an upstream are not: some servers store
other values, which are passed through unchanged.

Comparisons treat an absent key and a JSON null as the same: no server is known to distinguish them.
"""

from collections.abc import Collection, ItemsView, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from runsadmin.errors import InvalidMetadata, MetadataError
from runsadmin.text import is_text

MAX_PAIRS = 16
MAX_KEY_LENGTH = 64
MAX_VALUE_LENGTH = 512
# The total size of all keys that one edit removes. Lax servers store keys of any length.
MAX_REMOVED_BYTES = 65_536


class MetadataState(StrEnum):
    """Whether the metadata of a run is known and, if it is not, why."""

    KNOWN = ""
    NOT_SHOWN = "not_shown"
    UNREADABLE = "unreadable"


class Metadata(Mapping[str, object]):
    """An immutable map of pairs. Values are strings; other JSON values from lax servers are kept unchanged."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Mapping[str, object] | None = None) -> None:
        self._pairs = dict(pairs or {})

    @classmethod
    def read(cls, value: object) -> "Metadata":
        """Reads what an upstream sent as `metadata`. Anything that is not a map, such as null, counts as empty."""
        return cls(value) if isinstance(value, Mapping) else cls()

    def __getitem__(self, key: str) -> object:
        return self._pairs[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def items(self) -> ItemsView[str, object]:
        return self._pairs.items()

    def __repr__(self) -> str:
        return f"Metadata({self._pairs!r})"


@dataclass(frozen=True)
class MetadataPatch:
    """Pairs to set and keys to remove. Applying it twice has the same effect as applying it once."""

    set: Mapping[str, object] = field(default_factory=dict)
    remove: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if overlap := self.remove & set(self.set):
            raise InvalidMetadata(
                [MetadataError(key, "set_and_removed", f"{key!r} is both set and removed.") for key in sorted(overlap)]
            )

    @classmethod
    def parse(cls, merge_patch: object) -> "MetadataPatch":
        """Reads a JSON merge patch, in which null removes a key. Raises InvalidMetadata with all errors."""
        if not isinstance(merge_patch, Mapping):
            raise InvalidMetadata([MetadataError(None, "invalid_type", "Metadata must be an object of strings.")])
        if errors := [error for key, value in merge_patch.items() for error in _errors(key, value)]:
            raise InvalidMetadata(errors)
        patch = cls(
            set={key: value for key, value in merge_patch.items() if value is not None},
            remove=frozenset(key for key, value in merge_patch.items() if value is None),
        )
        if len(patch.set) > MAX_PAIRS:
            raise InvalidMetadata([_too_many(len(patch.set))])
        if (size := sum(len(key.encode()) for key in patch.remove)) > MAX_REMOVED_BYTES:
            message = (
                f"The keys to remove have {size:,} bytes; at most {MAX_REMOVED_BYTES:,} are allowed in one edit. "
                "Remove them with several edits."
            )
            raise InvalidMetadata([MetadataError(None, "too_much_removed", message)])
        return patch

    @classmethod
    def between(cls, before: Mapping[str, object], after: Mapping[str, object]) -> "MetadataPatch":
        """The smallest patch that turns `before` into `after`."""
        return cls(
            set={key: value for key, value in after.items() if key not in before or before[key] != value},
            remove=frozenset(before.keys() - after.keys()),
        )

    @property
    def keys(self) -> frozenset[str]:
        """The keys that this patch touches."""
        return self.remove | self.set.keys()

    def __bool__(self) -> bool:
        return bool(self.set or self.remove)

    def apply(self, metadata: Mapping[str, object]) -> Metadata:
        return Metadata({key: value for key, value in {**metadata, **self.set}.items() if key not in self.remove})

    def without(self, keys: Collection[str]) -> "MetadataPatch":
        """The part of this patch that does not touch these keys."""
        return MetadataPatch(
            set={key: value for key, value in self.set.items() if key not in keys}, remove=self.remove.difference(keys)
        )

    def only(self, keys: Collection[str]) -> "MetadataPatch":
        """The part of this patch that touches these keys."""
        return self.without(self.keys.difference(keys))

    def as_merge_patch(self) -> dict[str, object]:
        return {**self.set, **dict.fromkeys(sorted(self.remove))}

    def check(self, metadata: Mapping[str, object]) -> None:
        """Raises InvalidMetadata if applying this patch to `metadata` would leave too many pairs.

        A map that is already over the limit, on a server that does not enforce it, may still be edited if the patch
        does not increase the number of pairs.
        """
        count = len(self.apply(metadata))
        if count > MAX_PAIRS and count > len(metadata):
            raise InvalidMetadata([_too_many(count)])


def check_is_readable(state: str, metadata: Mapping[str, object]) -> None:
    """Raises InvalidMetadata if upstream's metadata could not be read completely.

    A write sends the whole map, so it would lose what could not be read. Unreadable values are None in `metadata`.
    """
    if state != MetadataState.UNREADABLE:
        return
    advice = "An edit would lose it, so nothing is sent. Correct it upstream, then refresh the run."
    errors = [
        MetadataError(key, "unreadable", f"Upstream's value of {key!r} cannot be read. {advice}")
        for key, value in metadata.items()
        if value is None
    ]
    raise InvalidMetadata(
        errors or [MetadataError(None, "unreadable", f"Upstream's metadata cannot be read completely. {advice}")]
    )


@dataclass(frozen=True)
class Conflict:
    """A key that both sides have changed since `base`. A value of None means that the key is absent."""

    key: str
    base: object
    theirs: object
    ours: object


@dataclass(frozen=True)
class Merge:
    """The outcome of a merge. `patch` is the part of ours without conflicts; `result` is theirs after this patch."""

    patch: MetadataPatch
    result: Metadata
    conflicts: tuple[Conflict, ...] = ()

    @property
    def conflicting_keys(self) -> list[str]:
        return [conflict.key for conflict in self.conflicts]


def merge3(patch: MetadataPatch, *, base: Mapping[str, object] | None, theirs: Mapping[str, object]) -> Merge:
    """Applies our patch, made by someone who saw `base`, to what upstream has now (`theirs`).

    A key that the patch does not touch keeps its current value. A touched key is a conflict if its current value is
    neither the one in `base` nor the one that the patch would produce. Without a `base`, nothing is a conflict.
    """
    if base is None:
        return Merge(patch, patch.apply(theirs))
    conflicts = tuple(
        Conflict(key, base.get(key), theirs.get(key), patch.set.get(key))
        for key in sorted(patch.keys)
        if theirs.get(key) not in (base.get(key), patch.set.get(key))
    )
    patch = patch.without([conflict.key for conflict in conflicts])
    return Merge(patch, patch.apply(theirs), conflicts)


def differing_keys(one: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    """The keys whose values differ, sorted."""
    return sorted(key for key in {*one, *other} if one.get(key) != other.get(key))


def _errors(key: object, value: object) -> Iterator[MetadataError]:
    if not isinstance(key, str):
        yield MetadataError(str(key), "invalid_type", "A key must be a string.")
        return
    if not key:
        yield MetadataError(key, "empty_key", "A key cannot be empty.")
    if not is_text(key):
        yield invalid_character(key, "A key")
    if value is None:  # A removal. Lax servers store keys of any length, and it must be possible to remove those.
        return
    shown = key if len(key) <= MAX_KEY_LENGTH else f"{key[:MAX_KEY_LENGTH]}…"
    if len(key) > MAX_KEY_LENGTH:
        yield MetadataError(
            key, "key_too_long", f"The key {shown!r} has {len(key)} characters; at most {MAX_KEY_LENGTH} are allowed."
        )
    if not isinstance(value, str):
        yield MetadataError(key, "invalid_type", f"The value of {shown!r} must be a string.")
    elif len(value) > MAX_VALUE_LENGTH:
        yield MetadataError(
            key,
            "value_too_long",
            f"The value of {shown!r} has {len(value)} characters; at most {MAX_VALUE_LENGTH} are allowed.",
        )
    elif not is_text(value):
        yield invalid_character(key, f"The value of {shown!r}")


def invalid_character(key: str, what: str) -> MetadataError:
    message = f"{what} contains a character that cannot be stored (U+0000 or a lone surrogate). Remove it."
    return MetadataError(key, "invalid_character", message)


def _too_many(count: int) -> MetadataError:
    return MetadataError(None, "too_many_pairs", f"This would leave {count} pairs; a run can have at most {MAX_PAIRS}.")
