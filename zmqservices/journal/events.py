"""What a journal keeps and hands out, each a sentence with fields."""

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

    `(origin, seq)` names it for ever: `origin` is the opening of the journal in which it was appended, so that not even
    a journal that came back from a backup uses a name twice. `seq` counts through the journal without a hole, over all
    openings. Nothing for the group lies between `prev_seq` and `seq`. `at` is the wall clock's time of the commit.
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
        """Bytes of what is carried."""
        return len(self.body) + len(self.headers or b"") + len(self.type)


class LostRange(NamedTuple):
    """`events` events for the group, all from `from_seq` to `to_seq` (both included), are gone for `reason`.

    A gap is acknowledged as an event is, with `seq` (its `to_seq`), once the group has been told.
    """

    from_seq: int
    to_seq: int
    events: int
    #: "bytes" and "age": the journal's bounds; "expired": the group's own; "damaged": what was read back was not what
    #: was written.
    reason: str

    @property
    def seq(self) -> int:
        """What to acknowledge it by."""
        return self.to_seq


class Page(NamedTuple):
    """The next items of a group, in order. All of its items up to `to_seq` were looked at; `is_last` if no more were there."""

    items: tuple[StoredEvent | LostRange, ...]
    to_seq: int
    is_last: bool


class DeadLetter(NamedTuple):
    """An event that a group gave up after `attempts` deliveries, with the last error (as `exceptions.serialize` made it)."""

    event: StoredEvent
    attempts: int
    error: dict[str, Any]
    #: Wall clock's time when it was given up.
    buried_at: float


@dataclass(frozen=True, slots=True)
class Group:
    """One interested party: a handler of a service (or one instance of it, when all must hear)."""

    #: For example "reports.handle_order".
    name: str
    #: The event types that it wants, as `wire/topics` reads them.
    pattern: str
    #: For a group that the journal does not know yet: "new" (events from now on) or "earliest" (all that are kept).
    start: str = "new"
    #: DeliverySchedule after which an event becomes a dead letter; 0 for never.
    max_deliveries: int = 10
    #: Seconds without a sign of its members after which nothing is kept for it any more; None for never.
    expires_after: float | None = None
    #: What else its publisher wants to remember of it (kind, source service); must be plain JSON.
    details: dict[str, Any] = field(default_factory=dict, hash=False)

    def compiled(self) -> Pattern:
        """The pattern, ready to be asked many times."""
        return compile(self.pattern)


@dataclass(frozen=True, slots=True)
class GroupStats:
    """How one group stands. Ages in seconds; `oldest_age` is None when nothing waits."""

    group: Group
    cursor: int
    waiting: int
    oldest_age: float | None
    dead_letters: int
    #: Events that were ever lost to bounds.
    lost: int
    #: Since the last sign of a member.
    idle: float
    #: Whether it has been away for longer than `expires_after`: nothing is kept for it until it returns.
    has_expired: bool


@dataclass(frozen=True, slots=True)
class JournalStats:
    """How a journal stands. `bytes` is what counts against `max_bytes`; the files may be somewhat larger."""

    events: int
    bytes: int
    max_bytes: int
    first_seq: int
    last_seq: int
    dead_letters: int
    groups: dict[str, GroupStats]
    #: Appends that wait for room.
    blocked: int
    #: The last error of the disk, while it lasts.
    trouble: str | None


class Dropped(NamedTuple):
    """Told when events went before `group` had handled them."""

    group: str
    gap: LostRange


class Expired(NamedTuple):
    """Told when a group was away for so long that nothing is kept for it any more."""

    group: str
    idle: float
    waiting: int


class DeadLettersDropped(NamedTuple):
    """Told when the oldest dead letters went, because all of them may fill half of the journal's bytes only."""

    group: str
    dead_letters: int


class Reset(NamedTuple):
    """Told when the journal is not the one that was left: it lacks events that it had (`lost`, None if unknown).

    `reason` is "rewound" (the file is older than what was last written to it: a copy from a backup, or a power cut with
    sync="normal"), "replaced" (another journal than the one that was last here) or "damaged" (it could not be read; what
    could be was carried over, and the file was kept under the name in `detail`).
    """

    reason: str
    lost: int | None
    detail: str


Notice = Dropped | Expired | DeadLettersDropped | Reset
