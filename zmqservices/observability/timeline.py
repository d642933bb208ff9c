"""The last changes in the cluster that one process saw: instances that came and went, links, ejections, drains.

Internal.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

#: The most entries that are kept, and the most characters of a detail and of a name, which other nodes may have chosen.
MOST_KEPT, LONGEST_DETAIL, LONGEST_NAME = 200, 200, 255


class Happening(NamedTuple):
    """One entry. `number` counts from 1 on in each process, `at` is in seconds since 1970.

    `what` is one of: started, stopped, draining, drained (services of this process); listed, unlisted (instances in the
    directory, of services that are called from here); ejected, restored (by outlier ejection); link up,
    link lost, link suspect, link refused (nodes; `instance` is the node, `detail` begins with its address).
    """

    number: int
    at: float
    what: str
    service: str
    instance: str
    detail: str


class Timeline:
    """The last MOST_KEPT entries. Iterating gives them, oldest first."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._kept: deque[Happening] = deque(maxlen=MOST_KEPT)
        self._number = 0

    def __iter__(self) -> Iterator[Happening]:
        return iter(list(self._kept))

    def add(self, what: str, service: str, instance: str, detail: str = "") -> None:
        """Add an entry."""
        self._number += 1
        self._kept.append(Happening(
            self._number, self._clock(), what, service[:LONGEST_NAME], instance[:LONGEST_NAME], detail[:LONGEST_DETAIL]
        ))
