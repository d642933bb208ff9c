"""Messages for a node whose queue has no room: they are kept while it reads, and until they are too much to keep."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from zmqservices.transport import Sent

#: Bytes that are kept for one node before it is given up, besides those that are on their way to it. How many messages they
#: are does not count: a client that is behind by a hundred thousand small answers catches up within seconds.
LONGEST_SEND_QUEUE = 128 * 1024 * 1024

#: Bytes that are kept for all nodes together before the one with the most is given up.
ALL_SEND_QUEUES = 256 * 1024 * 1024

#: Bytes that a message takes in memory besides its own.
OVERHEAD = 100


class Kept:
    """What is kept for all nodes that one socket serves."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0

    @property
    def is_too_much(self) -> bool:
        return self.bytes > ALL_SEND_QUEUES


class SendQueue:
    """In their order, oldest first. `kept` counts what is kept for this node and all others together."""

    __slots__ = ("bytes", "messages", "_kept")

    def __init__(self, kept: Kept | None = None) -> None:
        self._kept = Kept() if kept is None else kept
        #: What the messages take.
        self.bytes = 0
        self.messages: deque[Any] = deque()

    def __len__(self) -> int:
        return len(self.messages)

    @property
    def is_too_long(self) -> bool:
        return self.bytes > LONGEST_SEND_QUEUE

    def add(self, frames: bytes | tuple[bytes, bytes]) -> None:
        self.messages.append(frames)
        size = size_of(frames) + OVERHEAD
        self.bytes += size
        self._kept.bytes += size

    def hand_on(self, send: Callable[[Any], Sent]) -> Sent:
        """Send what there is room for. TAKEN when nothing is left."""
        messages = self.messages
        while messages:
            sent = send(messages[0])
            if sent is not Sent.TAKEN:
                return sent
            size = size_of(messages.popleft()) + OVERHEAD
            self.bytes -= size
            self._kept.bytes -= size
        return Sent.TAKEN

    def clear(self) -> None:
        self.messages.clear()
        self._kept.bytes -= self.bytes
        self.bytes = 0


def size_of(frames: bytes | tuple[bytes, bytes]) -> int:
    """Bytes of a message."""
    return len(frames) if isinstance(frames, bytes) else len(frames[0]) + len(frames[1])
