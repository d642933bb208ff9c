"""Flow control of a registry: the bytes that each client has not read yet, and the changes that wait for a subscriber.

Rule 1: no sockets, no clock here.
Rule 2: a client has read everything before a mark once it answers the mark; tokens cannot be guessed.
Rule 3: changes for a slow subscriber are coalesced. Keys wait, not frames: however often a record changes, it is sent once.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator

from discovery.interest import Interest
from discovery.protocol import MARK_INTERVAL, PART_SIZE
from discovery.server.changes import Removed
from discovery.server.shares import MAX_LEASES
from discovery.server.table import MAX_TOMBSTONES

#: Unread bytes of one client beyond which its changes wait, and unread bytes of all clients together, shared equally.
MAX_UNREAD, MAX_ALL_UNREAD = 8 * 1024 * 1024, 256 * 1024 * 1024
#: The number of clients that may each leave MAX_UNREAD bytes unread.
ALL_UNREAD = MAX_ALL_UNREAD // MAX_UNREAD
#: Further bytes of answers. If a client leaves these unread as well, it is refused.
ANSWER_ROOM = 1024 * 1024
#: Bytes of overhead for each frame.
FRAME_COST = 100
#: The most keys that may wait for one subscriber. With more, it is refused.
MAX_PENDING = MAX_LEASES + MAX_TOMBSTONES

_random = random.SystemRandom()

#: The instance of a record, or the namespace and key of a note.
Key = str | tuple[str, str]


def share(clients: int, most: int | None = None) -> int:
    """Bytes that each of `clients` clients may leave unread; at least one part of a snapshot. `most`: for one client alone."""
    most = MAX_UNREAD if most is None else most
    return max(PART_SIZE, min(most, ALL_UNREAD * most // max(1, clients)))


class SubscriberConnection:
    """One connection, with the number of bytes that were sent over it and are not read yet."""

    __slots__ = ("_marks", "is_refused", "unmarked", "unread")

    def __init__(self) -> None:
        self.unread = 0
        #: Bytes since the last mark.
        self.unmarked = 0
        self.is_refused = False
        #: The token of each unanswered mark, with the bytes before it.
        self._marks: deque[tuple[int, int]] = deque()

    def sent(self, size: int) -> bool:
        """Counts a frame that was sent. True when a mark should follow."""
        size += FRAME_COST
        self.unread += size
        self.unmarked += size
        return self.unmarked >= MARK_INTERVAL

    def new_token(self) -> int:
        """The token for the next mark."""
        return _random.getrandbits(62)

    def marked(self, token: int) -> None:
        """The mark with this token was sent."""
        self._marks.append((token, self.unmarked))
        self.unmarked = 0

    def read(self, token: int) -> bool:
        """A mark was answered: everything before it is read, even if earlier answers were lost. False for an unknown token."""
        if not any(token == known for known, _ in self._marks):
            return False
        known = None
        while known != token:
            known, size = self._marks.popleft()
            self.unread -= size
        return True


class TrackedSubscriber:
    """A client that is sent all changes of a namespace (None: of all namespaces), as far as they are of interest."""

    __slots__ = ("acks", "client", "interest", "namespace", "parts", "pending", "seq")

    def __init__(
        self,
        client: SubscriberConnection,
        namespace: str | None,
        interest: Interest,
        parts: Iterator[bytes],
        pending: dict[Key, Removed | None],
    ) -> None:
        self.client = client
        self.namespace = namespace
        self.interest = interest
        self.seq = 0
        #: Parts of the snapshot that are not sent yet; None once all are sent.
        self.parts: Iterator[bytes] | None = parts
        #: Keys whose changes are sent after the snapshot: with a removal, or with None for the state that the key then has.
        self.pending = pending
        #: Requests that are acknowledged once nothing is pending, since the records that they asked for have then been sent.
        self.acks: list[int] = []

    @property
    def is_waiting(self) -> bool:
        """Whether parts, changes or acknowledgements wait."""
        return self.parts is not None or bool(self.pending) or bool(self.acks)

    def is_behind(self, most: int) -> bool:
        """Whether new changes must wait; `most` is the number of bytes that may be unread."""
        return bool(self.pending) or self.parts is not None or self.client.unread >= most

    def defer(self, news: dict[Key, Removed | None]) -> bool:
        """Keeps changes for later; False when too many wait."""
        for key, gone in news.items():
            # Ordered by the last change, so that an older change never overtakes a newer one.
            self.pending.pop(key, None)
            self.pending[key] = gone
        return len(self.pending) <= MAX_PENDING

    def put_back(self, key: Key, gone: Removed | None) -> None:
        """Puts a change that could not be sent back at the beginning."""
        self.pending = {key: gone, **self.pending}
