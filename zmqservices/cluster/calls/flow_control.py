"""Flow control: bounds the bytes in flight to a node. ZeroMQ only bounds their number: its queue holds 10,000 messages.

A PING follows after every quarter of a window. Its PONG shows that the node has read everything before it. Small messages are not
counted, because ZeroMQ's bound on their number also bounds their bytes.
"""

from __future__ import annotations

#: Bytes of large messages that may be in flight to one node. Further large messages wait at the sender.
WINDOW = 128 * 1024 * 1024

#: Bytes that may be in flight to all nodes of one server socket. Beyond that, each node may only have its share of them.
ALL_WINDOWS = 256 * 1024 * 1024

#: Seconds after which a full window sends another PING, because a PONG is lost if the node has no room to send it.
ASKS_AGAIN = 1.0

#: A message of at most this many bytes is small, and not counted.
UNCOUNTED = 4096


class InFlightTotal:
    """The bytes in flight to all nodes of one server socket."""

    __slots__ = ("bytes", "nodes")

    def __init__(self) -> None:
        self.bytes = 0
        #: How many nodes have bytes in flight.
        self.nodes = 0

    def is_too_much(self, own: int) -> bool:
        """Whether the total is used up, and a node with `own` bytes in flight has more than its share."""
        return self.bytes >= ALL_WINDOWS and own * self.nodes >= ALL_WINDOWS


class FlowControlWindow:
    """The flow-control window of one node. It counts its bytes in `total`, too, if it is given."""

    __slots__ = ("_sent", "_read", "_asked", "_asked_at", "_marks", "_total")

    def __init__(self, total: InFlightTotal | None = None) -> None:
        self._total = InFlightTotal() if total is None else total
        #: Bytes since the beginning: sent; known to be read; sent before the last PING.
        self._sent = self._read = self._asked = 0
        self._asked_at = 0.0
        #: The bytes sent before each PING that is not answered yet, by its token.
        self._marks: dict[int, int] = {}

    @property
    def is_full(self) -> bool:
        """Whether the next large message must wait. An empty window takes a message of any size."""
        return self.in_flight >= WINDOW or self._total.is_too_much(self.in_flight)

    @property
    def in_flight(self) -> int:
        """Bytes that were sent and are not known to be read."""
        return self._sent - self._read

    def wants_to_ask(self, now: float) -> bool:
        """Whether a PING should be sent at `now` (monotonic seconds)."""
        if self._sent - self._asked >= WINDOW // 4:
            return True
        return self.is_full and (not self._marks or now - self._asked_at >= ASKS_AGAIN)

    def sent(self, size: int) -> None:
        """A message of `size` bytes was sent."""
        if self._sent == self._read:
            self._total.nodes += 1
        self._total.bytes += size
        self._sent += size

    def close(self) -> None:
        """The connection has ended, so that nothing is in flight any more."""
        self._read_up_to(self._sent)

    def _read_up_to(self, mark: int) -> None:
        if mark > self._read:
            self._total.bytes -= mark - self._read
            self._read = mark
            if mark == self._sent:
                self._total.nodes -= 1

    def asked(self, token: int, now: float) -> None:
        """A PING with this token was sent after all messages so far."""
        self._asked = self._marks[token] = self._sent
        self._asked_at = now

    def answered(self, token: int) -> bool:
        """A PONG came. False if its PING was not one of this window."""
        mark = self._marks.pop(token, None)
        if mark is None:
            return False
        self._read_up_to(mark)
        self._marks = {token: mark for token, mark in self._marks.items() if mark > self._read}
        return True
