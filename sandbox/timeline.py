"""Ids in the order of `created_at`, and pages of them."""

from bisect import bisect_left, bisect_right, insort

# The time of creation, the order of arrival (for ties), and the id.
type Key = tuple[float, int, str]


class Timeline:
    def __init__(self) -> None:
        self._keys: list[Key] = []

    def __contains__(self, key: Key) -> bool:
        index = bisect_left(self._keys, key)
        return index < len(self._keys) and self._keys[index] == key

    def add(self, key: Key) -> None:
        insort(self._keys, key)

    def remove(self, key: Key) -> None:
        del self._keys[bisect_left(self._keys, key)]

    def ids(self) -> list[str]:
        return [id for _, _, id in self._keys]

    def page(self, *, limit: int, descending: bool, after: Key | None, before: Key | None) -> tuple[list[str], bool]:
        """One page of ids in the requested order, and whether there are more after it.

        `after` and `before` are positions in the requested order, both exclusive. With `before` alone, the page ends
        right before that position.
        """
        older, newer = (before, after) if descending else (after, before)
        low = bisect_right(self._keys, older) if older else 0
        high = bisect_left(self._keys, newer) if newer else len(self._keys)
        backwards = before is not None and after is None
        if descending == backwards:  # The page is at the old end of the requested range.
            keys = self._keys[low : min(high, low + limit)]
        else:
            keys = self._keys[max(low, high - limit) : high]
        if descending:
            keys.reverse()
        return [id for _, _, id in keys], high - low > limit
