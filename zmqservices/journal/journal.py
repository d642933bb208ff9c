"""The journal of one publishing process: events appended off the hub, read back per group until they are handled."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from zmqservices.journal.events import Group, JournalStats, NewEvent, Notice, StoredEvent
from zmqservices.journal.slots import Orphan

#: Called once with a result, or with an exception (not raised), on the journal's own thread: it must be quick, must not
#: wait, must not log in a patched process, and hands over to the hub with `loop.run_callback_threadsafe`.
Done = Callable[[Any], None]


class Journal:
    """Use `open`. Every method may be called from any thread or greenlet, returns at once and never touches the disk.

    The order of calls is kept: an event appended before `ensure_group` is before the group's start.
    """

    @classmethod
    def open(
        cls,
        folder: str | Path,
        source: str,
        *,
        slot: int | None = None,
        sync: str = "normal",
        max_bytes: int = 1 << 30,
        max_age: float | None = None,
        keep: float = 3600.0,
        when_full: str = "block",
        patience: float = 10.0,
        tell: Callable[[Notice], None] | None = None,
        committed: Callable[[int], None] | None = None,
    ) -> Journal:
        """The journal of the first free slot of `source` in `folder` (or of `slot`: to adopt an orphan); made if missing.

        Reads the disk and waits for it: on a hub, ask from its threadpool.

        `sync`: "normal" survives kill -9 of the process; "full" a power cut as well, for an fsync per commit.
        `max_bytes`: what the events and dead letters may take. `max_age`: seconds after which events go, handled or not.
        `keep`: seconds for which handled events stay, for replays and for groups that start with "earliest"; they are
        the first to go when there is no room.
        `when_full`: "block" (an append waits up to `patience` seconds for room, then is told JournalFull) or
        "drop-oldest" (events that were not handled go; their groups get a Gap).
        `tell` hears what an operator should know; `committed` hears the last seq after each commit. Both are called as
        Done callbacks are, on the journal's thread; `tell` for a Reset before `open` returns.

        JournalError when the slot is owned by another process or the file cannot be used, JournalFull on a full disk,
        ConfigurationError for a setting that is wrong.
        """
        raise NotImplementedError

    @staticmethod
    def orphans(folder: str | Path, source: str | None = None) -> list[Orphan]:
        """Journals in `folder` (of `source` only, if given) that no process owns. Reads the disk."""
        raise NotImplementedError

    @property
    def id(self) -> str:
        """The name of this file for as long as it lives."""
        raise NotImplementedError

    @property
    def origin(self) -> str:
        """The name of this opening; what is appended from now on carries it."""
        raise NotImplementedError

    @property
    def path(self) -> Path:
        """The file."""
        raise NotImplementedError

    @property
    def slot(self) -> int:
        """Its number among the journals of its source in the folder."""
        raise NotImplementedError

    @property
    def last_seq(self) -> int:
        """The seq of the last event that was committed; 0 when there was none yet."""
        raise NotImplementedError

    def knows(self, origin: str, seq: int) -> bool:
        """Whether the event of that name is, or was, in this journal. False for one that a subscriber has seen means that the
        journal was rewound: say RESET to the subscriber (no name is used twice, so nothing else need be done)."""
        raise NotImplementedError

    def stats(self) -> JournalStats:
        """How it stands. Reads memory only."""
        raise NotImplementedError

    # --- events ---------------------------------------------------------------------------------------------------------

    def append(self, event: NewEvent, done: Done) -> None:
        """Keep `event`. done(seq) once it is committed; done(JournalFull | JournalError) if it was not kept."""
        raise NotImplementedError

    def fetch(self, group: str, after_seq: int, limit: int, done: Done, max_bytes: int = 1 << 22) -> None:
        """done(Page) with the next events and gaps of `group` after `after_seq`, without those that it acknowledged.

        At most `limit` items and about `max_bytes` bytes. An empty page with `is_last` False only says: ask again after its
        `to_seq`. Recent events come from memory.
        """
        raise NotImplementedError

    def acknowledge(self, group: str, seq: int) -> None:
        """`group` has handled the event (or was told the gap). On disk within 50 ms: a crash makes duplicates only.

        A seq that is acknowledged already, or a group that is not known (any more), does no harm.
        """
        raise NotImplementedError

    # --- groups ---------------------------------------------------------------------------------------------------------

    def ensure_group(self, group: Group, done: Done) -> None:
        """Keep events for `group` from here on, if that is not done already. done(cursor): fetch after it.

        A known group keeps its cursor; its pattern, limits and details become the new ones. Also a sign of life.
        """
        raise NotImplementedError

    def remove_group(self, name: str, done: Done) -> None:
        """Forget a group, its cursor, its gaps and its dead letters. done(True), or done(False) if it was not known."""
        raise NotImplementedError

    def groups(self) -> list[Group]:
        """The groups for which events are kept. Reads memory only."""
        raise NotImplementedError

    def seen(self, group: str) -> None:
        """A member of the group is there: `expires_after` counts from now. Acknowledging says so as well."""
        raise NotImplementedError

    def rewind(self, group: str, done: Done, *, to_seq: int | None = None, to_time: float | None = None) -> None:
        """Deliver again what came after `to_seq`, or at or after `to_time` (wall clock), as far as it is kept.

        done(cursor) for Deliveries.rewound; done(JournalError) when there is no such group.
        """
        raise NotImplementedError

    # --- dead letters ---------------------------------------------------------------------------------------------------

    def bury(
        self, group: str, event: StoredEvent, error: dict[str, Any], attempts: int, done: Done | None = None
    ) -> None:
        """Make the event a dead letter of the group, and acknowledge it, in one commit. done(None) after it.

        On an error nothing has changed: the event is delivered again after a restart.
        """
        raise NotImplementedError

    def dead_letters(self, group: str | None, limit: int, done: Done, after: int = 0) -> None:
        """done(list of (group name, DeadLetter)), of all groups for None; oldest seq first, those after the seq `after`."""
        raise NotImplementedError

    def requeue(self, group: str, seqs: Iterable[int] | None, done: Done) -> None:
        """Deliver dead letters (all for None) once more. done(list of StoredEvent) for Deliveries.requeued.

        They stay on disk until acknowledged, and become dead letters again if buried again.
        """
        raise NotImplementedError

    def requeued(self, group: str, done: Done) -> None:
        """done(list of StoredEvent): what was requeued and not acknowledged yet, for Deliveries.requeued after a restart."""
        raise NotImplementedError

    def drop(self, group: str, seqs: Iterable[int] | None, done: Done) -> None:
        """Throw dead letters away (all for None). done(how many)."""
        raise NotImplementedError

    # --- the end --------------------------------------------------------------------------------------------------------

    def close(self, done: Done | None = None) -> None:
        """Commit what was appended and acknowledged so far, and give the slot back. Twice does no harm.

        With `done`, returns at once and calls done(None) on the journal's thread as its last act. Without, the calling
        thread (not greenlet) waits. Later appends are told JournalError.
        """
        raise NotImplementedError
