"""What a node has counted lately, made of what it answers again and again.

Internal. Pure: the times are those in the answers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

Counts = TypeVar("Counts")

#: Answers that are kept, however fast they come.
MOST_ANSWERS = 64


class Recent(Generic[Counts]):
    """The counts of the last `span` seconds, and those of one answer that is a little older, so that the span is filled.

    Counts can be compared only while the process and the beginning of its counts are the same, and its clock goes forward;
    with another answer everything begins anew.
    """

    def __init__(self, span: float) -> None:
        self._span = span
        self._kept: deque[tuple[float, Counts]] = deque(maxlen=MOST_ANSWERS)
        self._identity: tuple[object, object] | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, answer: Mapping[str, Any], counts: Counts) -> None:
        """One more answer of `stats`. Raises KeyError, TypeError or ValueError for what is none, and is then as it was."""
        at, identity = float(answer["at"]), (answer["pid"], answer["since"])
        if identity != self._identity or (self._kept and at < self._kept[-1][0]):
            self._kept.clear()
            self._identity = identity
        self._kept.append((at, counts))
        while len(self._kept) > 2 and self._kept[1][0] <= at - self._span:
            self._kept.popleft()

    @property
    def oldest(self) -> Counts:
        """Those from which on it is counted. There must be one."""
        return self._kept[0][1]

    @property
    def newest(self) -> Counts:
        """The last ones. There must be one."""
        return self._kept[-1][1]

    @property
    def seconds(self) -> float:
        """Between the oldest and the newest; 0 until there are two."""
        return self._kept[-1][0] - self._kept[0][0] if len(self._kept) > 1 else 0.0
