"""Backpressure: queues messages for a node whose ZeroMQ queue is full, in order and bounded in bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from zmqservices.transport import Sent
from zmqservices.wire.envelope import Frames

#: The most bytes that may wait for one node, besides those in flight. With more, the node is given up. The number of messages is
#: not bounded, because a client that is a hundred thousand small answers behind catches up within seconds.
LONGEST_SEND_QUEUE = 128 * 1024 * 1024

#: The most bytes that may wait for all nodes together. With more, the node with the longest queue is given up.
ALL_SEND_QUEUES = 256 * 1024 * 1024

#: Bytes that a message takes in memory besides its content.
OVERHEAD = 100


class QueuedTotal:
    """The bytes that wait in all send queues of one server socket."""

    __slots__ = ("bytes", "_longest")

    def __init__(self, longest: int | None = None) -> None:
        self.bytes = 0
        self._longest = longest

    @property
    def longest(self) -> int:
        """The most bytes that may wait for one node now."""
        return LONGEST_SEND_QUEUE if self._longest is None else self._longest

    @property
    def is_too_much(self) -> bool:
        return self.bytes > (ALL_SEND_QUEUES if self._longest is None else 2 * self._longest)


class SendQueue:
    """The messages that wait for one node, oldest first. Their bytes also count in `total`, if it is given."""

    __slots__ = ("bytes", "messages", "_total")

    def __init__(self, total: QueuedTotal | None = None) -> None:
        self._total = QueuedTotal() if total is None else total
        #: Bytes that the messages take in memory.
        self.bytes = 0
        self.messages: deque[Frames] = deque()

    def __len__(self) -> int:
        return len(self.messages)

    @property
    def is_too_long(self) -> bool:
        return self.bytes > self._total.longest

    def add(self, frames: Frames) -> None:
        self.messages.append(frames)
        size = size_of(frames) + OVERHEAD
        self.bytes += size
        self._total.bytes += size

    def hand_on(self, send: Callable[[Frames], Sent]) -> Sent:
        """Send messages until `send` has no room. Returns its last answer; TAKEN if no message is left."""
        messages = self.messages
        while messages:
            sent = send(messages[0])
            if sent is not Sent.TAKEN:
                return sent
            size = size_of(messages.popleft()) + OVERHEAD
            self.bytes -= size
            self._total.bytes -= size
        return Sent.TAKEN

    def clear(self) -> None:
        self.messages.clear()
        self._total.bytes -= self.bytes
        self.bytes = 0


def size_of(frames: Frames) -> int:
    """Bytes of a message."""
    return len(frames) if isinstance(frames, bytes) else len(frames[0]) + len(frames[1])
