"""When which event of one group goes to which member.

Rule 1: no I/O and no clock here: `now` (seconds, monotonic) is always an argument, and so is the source of chance.
Rule 2: what is to be done is said by `due`, as actions; an action that was said counts as done.
Rule 3: whatever a peer says late, twice or wrongly does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from zmqservices.journal.events import Gap, Page, StoredEvent


class Send(NamedTuple):
    """Please send `event` to `member`; it is its `attempt`-th delivery (1 is the first)."""

    member: str
    event: StoredEvent
    attempt: int


class Bury(NamedTuple):
    """Please give up `event` after `attempts` deliveries: `Journal.bury`."""

    event: StoredEvent
    attempts: int
    error: dict[str, Any]


class Load(NamedTuple):
    """Please fetch: `Journal.fetch(group, after, limit, ...)`, and answer with `loaded` or `not_loaded`."""

    after: int
    limit: int


class Tell(NamedTuple):
    """Please tell `member` (and the log) of `gap`, and acknowledge it: `Journal.acknowledge(group, gap.seq)`."""

    member: str
    gap: Gap


Action = Send | Bury | Load | Tell


class Deliveries:
    """The schedule of one group of one journal.

    Started with the cursor that `Journal.ensure_group` told; the first `due` with a member asks for events. After any
    other method call `due(now)`, do what it says, and come again at `next_at(now)`.

    In the order of seq while nothing fails. Events of one key are in flight one at a time, in order, and go to the member that
    rendezvous hashing chooses for the key among those that are there; a failing one holds up those of its key only.
    """

    def __init__(
        self,
        cursor: int,
        *,
        max_deliveries: int = 10,
        ack_wait: float = 30.0,
        backoff: float = 0.5,
        backoff_max: float = 60.0,
        window: int = 1000,
        window_bytes: int = 1 << 23,
        random: Callable[[], float],
    ) -> None:
        """`ack_wait`: seconds of silence of a member after which what it has in flight goes to others; `heard` says that it
        is not silent, whatever it is busy with. `backoff`: seconds before the second delivery, at most; doubles with
        each, up to `backoff_max`, and the wait is random between 0 and that (full jitter). `window`, `window_bytes`:
        how much may be in memory. `max_deliveries`: 0 for no limit. `random`: between 0 and 1, as random.random."""
        raise NotImplementedError

    # --- what the journal says -------------------------------------------------------------------------------------------

    def loaded(self, page: Page) -> None:
        """The answer to a Load."""
        raise NotImplementedError

    def not_loaded(self, now: float) -> None:
        """The Load failed; it is asked for again a second later."""
        raise NotImplementedError

    def appended(self, last_seq: int) -> None:
        """The journal has events up to `last_seq` now."""
        raise NotImplementedError

    def requeued(self, events: Iterable[StoredEvent]) -> None:
        """Dead letters, to be delivered once more; attempts count anew."""
        raise NotImplementedError

    def rewound(self, cursor: int) -> None:
        """Everything after `cursor` is delivered again, but for what is being handled at this moment."""
        raise NotImplementedError

    # --- what members say ------------------------------------------------------------------------------------------------

    def joined(self, member: str, now: float) -> None:
        """A member is there, without credit yet."""
        raise NotImplementedError

    def left(self, member: str, now: float) -> None:
        """A member is gone; what it had in flight goes to others at once."""
        raise NotImplementedError

    def granted(self, member: str, n: int, now: float) -> None:
        """`member` can take `n` more events than were granted before."""
        raise NotImplementedError

    def heard(self, member: str, now: float) -> None:
        """A sign of life (a heartbeat). The other messages of members are signs as well."""
        raise NotImplementedError

    def acked(self, member: str, seq: int, now: float) -> bool:
        """The event was handled. True if that is news: `Journal.acknowledge(group, seq)` then. From whichever member."""
        raise NotImplementedError

    def nacked(
        self, member: str, seq: int, delay: float | None, error: dict[str, Any], now: float, *, final: bool = False
    ) -> None:
        """The handler failed with `error`: again after `delay` seconds (None: after the backoff), or a dead letter when it was
        the last delivery or `final`. Ignored unless it is in flight at `member`."""
        raise NotImplementedError

    def returned(self, member: str, seq: int, now: float) -> None:
        """The member gives the event back unhandled (it is stopping); that delivery does not count. As with nacked otherwise."""
        raise NotImplementedError

    # --- what is to be done ----------------------------------------------------------------------------------------------

    def due(self, now: float, limit: int = 1000) -> list[Action]:
        """What is to be done now; not more than about `limit` Sends (then next_at(now) is now)."""
        raise NotImplementedError

    def next_at(self, now: float) -> float | None:
        """When `due` has something to say next if nothing else happens; None for never."""
        raise NotImplementedError

    # --- how it stands ---------------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Events that are sent and not answered."""
        raise NotImplementedError

    @property
    def in_memory(self) -> int:
        """Events that are loaded and not acknowledged."""
        raise NotImplementedError

    def members(self) -> list[str]:
        """Who is there."""
        raise NotImplementedError
