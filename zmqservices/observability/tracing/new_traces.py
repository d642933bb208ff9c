"""Internal: the headers of traces that begin in this process, made many at a time.

Making one header alone takes several times as long as its share of 256.
"""

from __future__ import annotations

import os

from zmqservices.observability.traceparent import new_headers
from zmqservices.utils.forks import ForkHook

#: Traces whose headers are made together.
MADE_TOGETHER = 256


class NewTraces:
    """The headers of the next traces, of which the share below `bound` (see `bound_of`) is sampled."""

    __slots__ = ("ready", "_bound", "__weakref__")

    def __init__(self, bound: int) -> None:
        #: The header of each trace that is not sampled, and None for each sampled trace. Taken by `pop`, which is atomic: no two
        #: threads get the same one. If it is empty, call `next`.
        self.ready: list[str | None] = []
        self._bound = bound
        _made.add(self)

    def next(self) -> str | None:
        """The header of a new trace; None if the trace is sampled."""
        while True:
            try:
                return self.ready.pop()
            except IndexError:
                self.ready.extend(new_headers(os.urandom(8 * MADE_TOGETHER), self._bound))

    def forget(self) -> None:
        """Drop the headers that are ready."""
        self.ready.clear()


# Otherwise a forked child would give traces the ids that its parent gives.
_made: ForkHook[NewTraces] = ForkHook(NewTraces.forget)
