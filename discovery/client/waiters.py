"""Callers that wait for registries: for acknowledgements, or for the records of an interest.

Internal.
"""

from __future__ import annotations

from discovery.interest import NOTHING, Interest, covers, grown
from discovery.native import NativeEvent


class Flush:
    """A caller waits until all reachable registries have acknowledged all changes.

    `good_enough`: whether the connected registries have, so that the caller is satisfied when its time is over.
    """

    def __init__(self) -> None:
        self.done = NativeEvent()
        self.good_enough = False


class Flushes:
    """All waiting calls of `flush`. Used on the directory's own thread only."""

    def __init__(self) -> None:
        self._waiting: list[Flush] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, flush: Flush) -> None:
        """A caller waits from now on."""
        self._waiting.append(flush)

    def tell(self, is_acknowledged: bool, may_come: bool) -> None:
        """`is_acknowledged`: by all connected registries. `may_come`: another registry may still connect."""
        for flush in self._waiting:
            flush.good_enough = is_acknowledged
            if is_acknowledged and not may_come:
                flush.done.set()
        self._waiting = [flush for flush in self._waiting if not flush.done.is_set()]


class Answered:
    """A caller waits until some registry has told all records of `interest`."""

    def __init__(self, interest: Interest) -> None:
        self.interest = interest
        self.done = NativeEvent()


class AnsweredInterest:
    """The interest of which some registry has told all records, be it long ago, and the callers that wait for more of it."""

    def __init__(self) -> None:
        self.interest: Interest = NOTHING
        self._waiting: list[Answered] = []

    def add(self, waiting: Answered) -> None:
        """A caller waits from now on."""
        self._waiting.append(waiting)
        self._tell()

    def grow(self, answered: Interest) -> None:
        """A registry has told all records of `answered`."""
        self.interest = grown(self.interest, answered)
        self._tell()

    def beyond(self, answered: Interest) -> Interest:
        """The part of `answered` that no registry had told before."""
        return answered if answered is None or self.interest is None else answered - self.interest

    def _tell(self) -> None:
        for waiting in self._waiting:
            if covers(self.interest, waiting.interest):
                waiting.done.set()
        self._waiting = [waiting for waiting in self._waiting if not waiting.done.is_set()]
