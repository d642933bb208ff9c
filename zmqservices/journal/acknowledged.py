"""The seqs that a group has acknowledged: all up to a cursor, and ranges beyond it. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable


class Acknowledged:
    """All seqs up to `cursor`, and ranges after it. Adjacent ranges are merged, so that there are few."""

    __slots__ = ("cursor", "_firsts", "_lasts")

    def __init__(self, cursor: int = 0, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self.cursor = cursor
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in ranges:
            self.add(first, last)

    def __contains__(self, seq: int) -> bool:
        if seq <= self.cursor:
            return True
        i = bisect_right(self._firsts, seq) - 1
        return i >= 0 and seq <= self._lasts[i]

    def add(self, first: int, last: int) -> None:
        """Mark `first` to `last`, both included, as acknowledged."""
        if first <= self.cursor + 1:
            self._advance(last)
            return
        low = bisect_left(self._lasts, first - 1)
        high = bisect_right(self._firsts, last + 1)
        if low < high:
            first = min(first, self._firsts[low])
            last = max(last, self._lasts[high - 1])
        self._firsts[low:high] = [first]
        self._lasts[low:high] = [last]

    def _advance(self, cursor: int) -> None:
        self.cursor = max(self.cursor, cursor)
        reached = bisect_right(self._firsts, self.cursor + 1)
        if reached:
            self.cursor = max(self.cursor, self._lasts[reached - 1])
            del self._firsts[:reached], self._lasts[:reached]

    def touches(self, first: int, last: int) -> bool:
        """Whether any seq from `first` to `last` is acknowledged."""
        if first <= self.cursor:
            return True
        i = bisect_left(self._lasts, first)
        return i < len(self._lasts) and self._firsts[i] <= last

    def covers(self, first: int, last: int) -> bool:
        """Whether all seqs from `first` to `last` are acknowledged."""
        if last <= self.cursor:
            return True
        first = max(first, self.cursor + 1)
        i = bisect_right(self._firsts, first) - 1
        return i >= 0 and last <= self._lasts[i]

    def ranges(self) -> list[tuple[int, int]]:
        """The acknowledged ranges beyond the cursor, in order."""
        return list(zip(self._firsts, self._lasts, strict=True))
