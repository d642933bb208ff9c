"""Lets other clients have their turn while one client sends without a pause.

Internal.

A greenlet that always finds bytes to read never waits, so no other greenlet would run: a client that sent requests, chunks or
frames faster than they were handled stopped the whole process for as long as it liked.
"""

from __future__ import annotations

from time import monotonic

import gevent

#: Seconds for which one client is served before others have their turn.
LONGEST_TURN = 0.001
#: Seconds of the pause. More than zero, because `gevent.sleep(0)` lets other greenlets run, but does not look for new bytes.
PAUSE = 1e-9


class Turn:
    """The turns of one client. Used by the greenlet that reads from it."""

    __slots__ = ("_began", "_iteration", "_loop")

    def __init__(self) -> None:
        self._loop = gevent.get_hub().loop
        #: The number of times that the event loop had looked for events when the present turn began.
        self._iteration = -1
        self._began = 0.0

    def give_way(self) -> None:
        """Called before each piece of work for the client. Lets others run if this client's turn was long enough."""
        if self._loop.iteration == self._iteration:
            if monotonic() - self._began <= LONGEST_TURN:
                return
            gevent.sleep(PAUSE)
        # Others have run since the last piece.
        self._iteration, self._began = self._loop.iteration, monotonic()
