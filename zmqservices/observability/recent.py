"""What a node has counted in the last seconds, computed from its repeated answers to `stats`.

Internal. Pure: all times are taken from the answers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

Counts = TypeVar("Counts")

#: The most answers that are kept.
MOST_ANSWERS = 64


class Recent(Generic[Counts]):
    """The counts of the last `span` seconds. One older answer is kept as well, so that the whole span is covered.

    Answers can be compared only while they come from one process, its counts began at the same time, and its clock goes
    forward. The first answer that breaks this rule removes all answers before it.
    """

    def __init__(self, span: float) -> None:
        self._span = span
        self._kept: deque[tuple[float, Counts]] = deque(maxlen=MOST_ANSWERS)
        self._identity: tuple[object, object] | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, answer: Mapping[str, Any], counts: Counts) -> None:
        """Add an answer of `stats`. Raises KeyError, TypeError or ValueError for a malformed one, and then changes nothing."""
        at, identity = float(answer["at"]), (answer["pid"], answer["since"])
        if identity != self._identity or (self._kept and not at > self._kept[-1][0]):
            self._kept.clear()
            self._identity = identity
        self._kept.append((at, counts))
        while len(self._kept) > 2 and self._kept[1][0] <= at - self._span:
            self._kept.popleft()

    @property
    def oldest(self) -> Counts:
        """The counts of the oldest kept answer. There must be an answer."""
        return self._kept[0][1]

    @property
    def newest(self) -> Counts:
        """The counts of the last answer. There must be an answer."""
        return self._kept[-1][1]

    @property
    def seconds(self) -> float:
        """Seconds between the oldest and the newest answer; 0 until there are two."""
        return self._kept[-1][0] - self._kept[0][0] if len(self._kept) > 1 else 0.0
