"""The values that a journal takes and returns: events, groups, dead letters, statistics and notices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from zmqservices.wire.topics import Pattern, compile


class NewEvent(NamedTuple):
    """Please keep this event. `body` and `headers` are opaque; events of one `key` are handled in order."""

    type: str
    body: bytes
    headers: bytes | None = None
    key: str | None = None


class StoredEvent(NamedTuple):
    """An event of a journal, as one group gets it.

    `(origin, seq)` is its unique name: `origin` is the opening of the journal in which it was appended, so that even a journal
    that was restored from a backup uses no name twice. `seq` counts through the journal without a hole, over all openings. No
    event for the group is between `prev_seq` and `seq`. `at` is the time of the commit by the wall clock.
    """

    seq: int
    prev_seq: int
    at: float
    type: str
    body: bytes
    headers: bytes | None
    key: str | None
    origin: str

    @property
    def size(self) -> int:
        """The bytes of the fields."""
        return len(self.body) + len(self.headers or b"") + len(self.type)


class LostRange(NamedTuple):
    """The group has lost its `events` events from `from_seq` to `to_seq`, both included, because of `reason`.

    Once the group has been told, the gap is acknowledged like an event, with `seq` (its `to_seq`).
    """

    from_seq: int
    to_seq: int
    events: int
    #: "bytes" or "age": a bound of the journal; "expired": the group's `expires_after`; "damaged": the file was damaged.
    reason: str

    @property
    def seq(self) -> int:
        """The seq with which the gap is acknowledged."""
        return self.to_seq


class Page(NamedTuple):
    """The next items of a group, in order: all up to `to_seq`. `is_last`: the journal has no more."""

    items: tuple[StoredEvent | LostRange, ...]
    to_seq: int
    is_last: bool


class DeadLetter(NamedTuple):
    """An event that a group gave up after `attempts` deliveries, with the last error (as `exceptions.serialize` made it)."""

    event: StoredEvent
    attempts: int
    error: dict[str, Any]
    #: The time when the group gave the event up, in seconds since 1970.
    buried_at: float


@dataclass(frozen=True, slots=True)
class Group:
    """A consumer group: one handler of a service, or of one instance of it where each instance gets every event."""

    #: For example "reports.handle_order".
    name: str
    #: The pattern of the event types that it subscribes to; see `zmqservices.wire.topics`.
    pattern: str
    #: Where a new group begins: "new" (events from now on) or "earliest" (all events that are kept).
    start: str = "new"
    #: Deliveries after which an event becomes a dead letter; 0 for never.
    max_deliveries: int = 10
    #: Seconds without a member after which events are no longer kept for the group; None for never.
    expires_after: float | None = None
    #: Further details that the publisher stores with the group (kind, source service), as plain JSON.
    details: dict[str, Any] = field(default_factory=dict, hash=False)

    def compiled(self) -> Pattern:
        """The compiled pattern."""
        return compile(self.pattern)


@dataclass(frozen=True, slots=True)
class GroupStats:
    """The statistics of one group. Ages in seconds; `oldest_age` is None if no event waits."""

    group: Group
    cursor: int
    waiting: int
    oldest_age: float | None
    dead_letters: int
    #: Events that were deleted by a bound before the group handled them, since the group exists.
    lost: int
    #: Seconds since the last message of a member.
    idle: float
    #: Whether the group had no member for `expires_after` seconds. No events are kept for it until a member returns.
    has_expired: bool


@dataclass(frozen=True, slots=True)
class JournalStats:
    """The statistics of a journal. `bytes` counts against `max_bytes`; the files may be somewhat larger."""

    events: int
    bytes: int
    max_bytes: int
    first_seq: int
    last_seq: int
    dead_letters: int
    groups: dict[str, GroupStats]
    #: Appends that wait until the journal has room.
    blocked: int
    #: The error of the disk, while it lasts; else None.
    trouble: str | None


class Dropped(NamedTuple):
    """Events were deleted before `group` had handled them."""

    group: str
    gap: LostRange


class Expired(NamedTuple):
    """A group had no member for so long that no events are kept for it any more."""

    group: str
    idle: float
    waiting: int


class DeadLettersDropped(NamedTuple):
    """The oldest dead letters were deleted, because dead letters may take half of the journal's bytes at most."""

    group: str
    dead_letters: int


class Reset(NamedTuple):
    """The journal lacks events that it had when it was last used: `lost` of them, None if unknown.

    `reason` is "rewound" (the file is older than its last use: a copy from a backup, or a power cut with sync="normal"),
    "replaced" (another journal is in its place) or "damaged" (the file could not be read; its readable events were copied, and
    it was kept under the name in `detail`).
    """

    reason: str
    lost: int | None
    detail: str


Notice = Dropped | Expired | DeadLettersDropped | Reset
