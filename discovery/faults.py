"""How many faulty messages a connection may send before its messages are dropped unread: at registries and at nodes.

Internal.

Rule 1: no sockets, no clock here; `now` is always an argument (seconds, monotonic).
Rule 2: faults are counted for each connection, because honest clients may share an address with others.
"""

from __future__ import annotations

#: The most faulty messages of one connection in a second, unless the operator chooses another number.
MOST_PER_SECOND = 20
#: Seconds for which the messages of a connection that sent more are dropped unread.
BLOCK_TIME = 10.0
#: The most connections whose faults are kept, before those of earlier seconds are dropped.
MANY_COUNTS = 1000


def too_many(most: int, sent: str = "you send") -> str:
    """Why a connection is blocked and what that means, for its peer. `sent`: "it sends" for the log."""
    why = f"more than {most:,} faulty messages within a second (max_faults_per_second)"
    return f"{why}; what {sent} is dropped for {BLOCK_TIME:g} s"


class FaultCount:
    """The faulty messages of one connection in the present second."""

    __slots__ = ("_count", "_since")

    def __init__(self) -> None:
        self._count = 0
        self._since = 0.0

    def is_over(self, now: float) -> bool:
        """Whether the second of the last fault is over, so that nothing needs to be remembered."""
        return now - self._since >= 1.0

    def add(self, most: int, now: float) -> bool:
        """Count one faulty message. Returns whether there are more than `most` in this second."""
        if self.is_over(now):
            self._count, self._since = 0, now
        self._count += 1
        return self._count > most


class FaultyPeers:
    """The connections of one socket that sent faulty messages a moment ago, by routing id."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: dict[bytes, FaultCount] = {}
        #: Until when each connection is blocked. The oldest block comes first, because all last equally long.
        self._blocked: dict[bytes, float] = {}
        self._many = MANY_COUNTS

    def blocked(self, now: float) -> dict[bytes, float]:
        """The connections whose messages are to be dropped unread. Changes with `add`, and must not be changed by others."""
        blocked = self._blocked
        while blocked and next(iter(blocked.values())) <= now:
            del blocked[next(iter(blocked))]
        return blocked

    def add(self, peer: bytes, now: float) -> bool:
        """Count one faulty message. Returns whether it is one too many, so that the connection is blocked from now on."""
        count = self._counts.get(peer)
        if count is None:
            self._forget_earlier(now)
            count = self._counts[peer] = FaultCount()
        if not count.add(self._most, now):
            return False
        del self._counts[peer]
        self._blocked[peer] = now + BLOCK_TIME
        return True

    def _forget_earlier(self, now: float) -> None:
        if len(self._counts) >= self._many:
            self._counts = {peer: count for peer, count in self._counts.items() if not count.is_over(now)}
            # If most of them are recent, the next search comes later, so that searches cost little for each new connection.
            self._many = max(MANY_COUNTS, 2 * len(self._counts))
