"""How fast a registry sends: what each client has not yet read, and what a subscriber is still to be sent.

Rule 1: no sockets, no clock here.
Rule 2: only a client that answers a mark has read what came before it; tokens cannot be guessed.
Rule 3: a subscriber that is behind is owed keys, not frames: however often a record changes, it is sent once.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator

from discovery.protocol import MARK_EVERY, PART_SIZE
from discovery.server.table import MAX_LEASES, MAX_WITHDRAWN, Gone

#: Bytes that a client may leave unread before news waits for it, and the same for all clients together, shared equally.
MAX_UNREAD, MAX_ALL_UNREAD = 8 * 1024 * 1024, 256 * 1024 * 1024
#: Bytes of answers beyond that; a client that leaves these unread, too, is given up.
ANSWER_ROOM = 1024 * 1024
#: Bytes that a frame takes besides its own.
FRAME_COST = 100
#: Keys that a subscriber may be owed; one that is owed more is given up.
MAX_OWED = MAX_LEASES + MAX_WITHDRAWN

_random = random.SystemRandom()

#: The instance of a record, or namespace and key of a note.
Key = str | tuple[str, str]


def share(clients: int) -> int:
    """Bytes that each of so many clients may leave unread; a part of a snapshot at least."""
    return max(PART_SIZE, min(MAX_UNREAD, MAX_ALL_UNREAD // max(1, clients)))


class SubscriberConnection:
    """One connection: what was sent over it and not yet read."""

    __slots__ = ("_marks", "is_given_up", "unmarked", "unread")

    def __init__(self) -> None:
        self.unread = 0
        #: Bytes of it since the last mark.
        self.unmarked = 0
        self.is_given_up = False
        #: The token of each mark that is unanswered, with the bytes before it.
        self._marks: deque[tuple[int, int]] = deque()

    def sent(self, size: int) -> bool:
        """Counts a frame; True when a mark should follow it."""
        size += FRAME_COST
        self.unread += size
        self.unmarked += size
        return self.unmarked >= MARK_EVERY

    def new_token(self) -> int:
        """What the next mark asks to be told."""
        return _random.getrandbits(62)

    def marked(self, token: int) -> None:
        """The mark with this token was sent."""
        self._marks.append((token, self.unmarked))
        self.unmarked = 0

    def read(self, token: int) -> bool:
        """True when that is the token of a mark: all before it is read, also if answers to earlier marks were lost."""
        if not any(token == known for known, _ in self._marks):
            return False
        known = None
        while known != token:
            known, size = self._marks.popleft()
            self.unread -= size
        return True


class TrackedSubscriber:
    """One client that is told of all changes of a namespace (None: of all)."""

    __slots__ = ("client", "namespace", "owed", "parts", "seq")

    def __init__(
        self,
        client: SubscriberConnection,
        namespace: str | None,
        parts: Iterator[bytes],
        owed: dict[Key, Gone | None],
    ) -> None:
        self.client = client
        self.namespace = namespace
        self.seq = 0
        #: Parts of the snapshot that are still to be made and sent; None once all are.
        self.parts: Iterator[bytes] | None = parts
        #: What is to be sent after that: who is gone, and of all others the state that they will be in by then.
        self.owed = owed

    def is_behind(self, most: int) -> bool:
        """What is new is to be owed, not sent."""
        return bool(self.owed) or self.parts is not None or self.client.unread >= most

    def owe(self, news: dict[Key, Gone | None]) -> bool:
        """Sends it later; False when that becomes too much."""
        for key, gone in news.items():
            # In the order of the last change, so that none is overtaken by an older one.
            self.owed.pop(key, None)
            self.owed[key] = gone
        return len(self.owed) <= MAX_OWED
