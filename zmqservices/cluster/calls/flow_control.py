"""How many bytes may be on their way to a node: ZeroMQ counts messages only, and ten thousand of a megabyte are too many.

After every quarter of a window a PING goes along behind the messages. What was sent before it has been read when its PONG
comes back. Messages that are not large are not counted; ZeroMQ's own bound on their number is one on their bytes.
"""

from __future__ import annotations

#: Bytes that may be on their way. More waits at the sender until some of it is read.
WINDOW = 128 * 1024 * 1024

#: Bytes that may be on their way to all nodes together, as far as one socket serves them. Beyond, each has a fair share of it.
ALL_WINDOWS = 256 * 1024 * 1024

#: Seconds after which a full window asks again: a PONG is lost where the one who sends it has no room for it.
ASKS_AGAIN = 1.0

#: Bytes of a message that is not large.
UNCOUNTED = 4096


class Total:
    """What is on its way to all nodes that one socket serves."""

    __slots__ = ("bytes", "nodes")

    def __init__(self) -> None:
        self.bytes = 0
        #: How many nodes have something on its way.
        self.nodes = 0

    def is_too_much(self, own: int) -> bool:
        """Whether a node to which `own` bytes are on their way has more than its share of a total that is used up."""
        return self.bytes >= ALL_WINDOWS and own * self.nodes >= ALL_WINDOWS


class FlowControlWindow:
    """The flow-control window of one node. `total` is that of all windows it shares a bound with."""

    __slots__ = ("_sent", "_read", "_asked", "_asked_at", "_marks", "_total")

    def __init__(self, total: Total | None = None) -> None:
        self._total = Total() if total is None else total
        #: Bytes since the beginning: sent, read as far as is known, and sent when it was last asked for.
        self._sent = self._read = self._asked = 0
        self._asked_at = 0.0
        #: What had been sent before each PING that is not answered yet, by token.
        self._marks: dict[int, int] = {}

    @property
    def is_full(self) -> bool:
        """Whether the next large message has to wait. An empty one takes a message of any size."""
        return self.on_the_way >= WINDOW or self._total.is_too_much(self.on_the_way)

    @property
    def on_the_way(self) -> int:
        """Bytes that were sent and, as far as is known, not read."""
        return self._sent - self._read

    def wants_to_ask(self, now: float) -> bool:
        """Whether a PING should be sent now, which is monotonic time."""
        if self._sent - self._asked >= WINDOW // 4:
            return True
        return self.is_full and (not self._marks or now - self._asked_at >= ASKS_AGAIN)

    def sent(self, size: int) -> None:
        if self._sent == self._read:
            self._total.nodes += 1
        self._total.bytes += size
        self._sent += size

    def close(self) -> None:
        """The node is gone, and what was on its way to it."""
        self._read_up_to(self._sent)

    def _read_up_to(self, mark: int) -> None:
        if mark > self._read:
            self._total.bytes -= mark - self._read
            self._read = mark
            if mark == self._sent:
                self._total.nodes -= 1

    def asked(self, token: int, now: float) -> None:
        """A PING with this token went behind all that was sent."""
        self._asked = self._marks[token] = self._sent
        self._asked_at = now

    def answered(self, token: int) -> bool:
        """A PONG came. False where its PING was none of the window's."""
        mark = self._marks.pop(token, None)
        if mark is None:
            return False
        self._read_up_to(mark)
        self._marks = {token: mark for token, mark in self._marks.items() if mark > self._read}
        return True
