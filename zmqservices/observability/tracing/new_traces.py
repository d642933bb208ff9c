"""Internal: the headers of traces that begin in this process and the ids of spans, made many at a time.

Making one header alone takes several times as long as its share of 64.
"""

from __future__ import annotations

import os

from zmqservices.observability.traceparent import new_headers, span_ids
from zmqservices.utils.forks import ForkHook

#: Traces whose headers are made together, and spans whose ids are.
MADE_TOGETHER = 64

#: The id that no span may have.
ZERO = "0" * 16


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


# Otherwise a forked child would give traces and spans the ids that its parent gives.
_made: ForkHook[NewTraces] = ForkHook(NewTraces.forget)
_span_ids: list[str] = []
os.register_at_fork(after_in_child=_span_ids.clear)


def new_span_id() -> str:
    """16 random hexadecimal digits that are not all zero."""
    while True:
        try:
            digits = _span_ids.pop()
        except IndexError:
            _span_ids.extend(span_ids(os.urandom(8 * MADE_TOGETHER)))
        else:
            if digits != ZERO:
                return digits
