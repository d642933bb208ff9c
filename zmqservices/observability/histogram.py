"""A histogram of durations. All histograms have the same bounds, so that any two can be added.

Pure. The bounds are 20 steps a decade from a microsecond to 100 seconds (the preferred numbers R20 of ISO 3), so a quantile is
known to 6 %. The bounds of a Prometheus histogram are among them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

_STEPS = "1 1.12 1.25 1.4 1.6 1.8 2 2.24 2.5 2.8 3.15 3.55 4 4.5 5 5.6 6.3 7.1 8 9".split()

#: The upper bound of each bucket, in seconds. The last bucket has none.
BOUNDS = (*(float(f"{step}e{decade}") for decade in range(-6, 2) for step in _STEPS), 100.0)

#: The bounds that are exported to Prometheus.
EXPORTED = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 100.0,
)  # fmt: skip
_EXPORTED_AT = tuple(BOUNDS.index(bound) for bound in EXPORTED)


def middle(index: int) -> float:
    """The duration in seconds that stands for all in a bucket."""
    upper = BOUNDS[min(index, len(BOUNDS) - 1)]
    lower = BOUNDS[index - 1] if 0 < index < len(BOUNDS) else upper
    return float((lower * upper) ** 0.5)


class Histogram:
    """Counts durations in seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        #: The number of durations in each bucket: above the bound before it, and at most its own. The last bucket has the rest.
        self.counts = [0] * (len(BOUNDS) + 1)
        #: The sum of all durations.
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    @property
    def count(self) -> int:
        """The number of counted durations."""
        return sum(self.counts)

    def add(self, other: Histogram) -> None:
        """Add the counts of `other` to these."""
        self.counts = [one + more for one, more in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    def since(self, earlier: Histogram) -> Histogram:
        """The durations that were counted after `earlier`, an older copy of this histogram."""
        made = Histogram()
        made.counts = [max(0, now - then) for now, then in zip(self.counts, earlier.counts, strict=True)]
        made.total = max(0.0, self.total - earlier.total)
        return made

    def quantile(self, share: float) -> float | None:
        """The duration in seconds that `share` (0 to 1) of all did not exceed, known to 6 %; None if nothing was counted."""
        wanted = share * self.count
        for index, seen in enumerate(accumulate(self.counts)):
            if seen and seen >= wanted:
                return middle(index)
        return None

    def exported(self) -> list[tuple[float, int]]:
        """Each bound of EXPORTED, with the number of durations that were at most that long."""
        seen = list(accumulate(self.counts))
        return [(bound, seen[at]) for bound, at in zip(EXPORTED, _EXPORTED_AT, strict=True)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values that `from_dict` reads. They are small if few buckets are used."""
        return {"total": self.total, "counts": {str(index): count for index, count in enumerate(self.counts) if count}}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Histogram:
        """The histogram in a mapping that `to_dict` made. Raises ValueError for anything else."""
        made = cls()
        try:
            made.total = float(plain["total"])
            for index, count in plain["counts"].items():
                made.counts[int(index)] += int(count)
        except (KeyError, TypeError, AttributeError, IndexError) as exc:
            raise ValueError(f"{plain!r:.100} is no histogram") from exc
        return made
