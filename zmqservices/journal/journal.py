"""The journal of one publishing process: stores events in a native thread, and reads them for each group."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from time import time
from typing import Any

from zmqservices.exceptions import ConfigurationError
from zmqservices.journal import slots
from zmqservices.journal.events import Group, GroupStats, JournalStats, NewEvent, Notice, StoredEvent
from zmqservices.journal.file_errors import explain
from zmqservices.journal.group_state import GroupState
from zmqservices.journal.retention import Bounds
from zmqservices.journal.slots import Orphan
from zmqservices.journal.writer import Writer
from zmqservices.wire.topics import compile

#: Called once, on the journal's own thread, with a result or an exception (not raised). It must be quick and must not block. In
#: a patched process it must not log. It hands the result to the hub with `loop.run_callback_threadsafe`.
Done = Callable[[Any], None]


class Journal:
    """One open journal; `open` makes it. All other methods may be called from any thread or greenlet, and none of them blocks.

    The order of calls is kept: an event that is appended before `ensure_group` is before the group's start.
    """

    def __init__(self, writer: Writer, bounds: Bounds) -> None:
        self._writer = writer
        self._bounds = bounds
        self._put = writer.put

    def _ask(self, question: Callable[[], Any], done: Done) -> None:
        self._put((None, question, done))

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
        retention: float = 3600.0,
        when_full: str = "block",
        full_timeout: float = 10.0,
        on_notice: Callable[[Notice], None] | None = None,
        on_commit: Callable[[int], None] | None = None,
    ) -> Journal:
        """Open the journal in the first free slot of `source` in `folder`, or in `slot` to adopt an orphan. Makes missing files.

        Blocks while it reads the disk: on a hub, call it in the hub's threadpool.

        `sync`: with "normal", committed events survive kill -9 of the process; with "full" also a power cut, at the cost of an
        fsync per commit. `max_bytes`: the bytes that events and dead letters may take. `max_age`: seconds after which events are
        deleted even if they were not handled. `retention`: seconds for which handled events are kept, for replays and for groups
        that start with "earliest"; if there is no room they are deleted earlier.
        `when_full`: "block" (an append waits up to `full_timeout` seconds for room, then gets JournalFull) or "drop-oldest" (the
        oldest events are deleted even if they were not handled, and their groups get a LostRange).
        `on_notice` is called with each notice for operators, `on_commit` with the last seq after each commit. Both run on the
        journal's thread, as Done callbacks do. For a Reset `on_notice` is called before `open` returns.

        Raises JournalError if another process owns the slot or the file cannot be used, JournalFull on a full disk, and
        ConfigurationError for a wrong setting.
        """
        _check(sync, max_bytes, when_full, max_age=max_age, retention=retention, full_timeout=full_timeout)
        bounds = Bounds(max_bytes, max_age, retention, drops_oldest=when_full == "drop-oldest")
        place = slots.claim(Path(folder), source, slot)
        writer = Writer(place, sync, bounds, full_timeout, on_notice or _ignore, on_commit or _ignore)
        try:
            writer.start()
        except Exception as exc:
            raise explain(place.path, exc, "start again") from exc
        return cls(writer, bounds)

    @staticmethod
    def orphans(folder: str | Path, source: str | None = None) -> list[Orphan]:
        """The journals in `folder` that no process owns; with `source`, only those of that source. Reads the disk."""
        return list(slots.orphans(Path(folder), source))

    @property
    def id(self) -> str:
        """The id of this journal, which stays the same for as long as its file exists."""
        return self._writer.state.store.id

    @property
    def origin(self) -> str:
        """The id of this opening of the journal. Events that are appended from now on have it."""
        return self._writer.state.origin

    @property
    def path(self) -> Path:
        """The path of the file."""
        return self._writer.slot.path

    @property
    def slot(self) -> int:
        """The number of this journal among the journals of its source in the folder."""
        return self._writer.slot.number

    @property
    def last_seq(self) -> int:
        """The seq of the last committed event; 0 if there is none."""
        return self._writer.state.last_seq

    def knows(self, origin: str, seq: int) -> bool:
        """Whether the event of that name is, or was, in this journal.

        False for an event that a subscriber has seen means that the journal was rewound: send RESET to the subscriber. No name is
        used twice, so nothing else need be done.
        """
        return self._writer.state.knows(origin, seq)

    def stats(self) -> JournalStats:
        """The journal's statistics. Does not read the disk."""
        state = self._writer.state
        now = time()
        groups = {name: _stats_of(group_state, now) for name, group_state in list(state.groups.items())}
        return JournalStats(
            events=state.last_seq - state.first_seq + 1,
            bytes=state.size,
            max_bytes=self._bounds.max_bytes,
            first_seq=state.first_seq,
            last_seq=state.last_seq,
            dead_letters=sum(group.dead_letters for group in groups.values()),
            groups=groups,
            blocked=len(self._writer.blocked),
            trouble=self._writer.trouble,
        )

    # --- events ---------------------------------------------------------------------------------------------------------

    def append(self, event: NewEvent, done: Done) -> None:
        """Store `event`. done(seq) once it is committed; done(JournalFull | JournalError) if it was not stored."""
        if not (isinstance(event.body, bytes) and isinstance(event.type, str)):
            raise TypeError(f"an event is kept as a text (its type) and bytes (its body), not as {event!r}")
        self._put((event, done))

    def give_way(self, seconds: float) -> bool:
        """Block the calling thread until the journal's thread has done all its jobs, at most `seconds`. False if it needs longer.

        A busy hub calls this after it has posted jobs. Otherwise the journal's thread would wait longer for the interpreter's
        lock than for the disk. Returns at once if there is nothing to do, or if the disk was slow a moment ago.
        """
        return self._writer.mailbox.give_way(seconds)

    def fetch(self, group: str, after_seq: int, limit: int, done: Done, max_bytes: int = 1 << 22) -> None:
        """Call done(Page) with the next events and gaps of `group` after `after_seq` that it has not acknowledged.

        A page has at most `limit` items and about `max_bytes` bytes. If it is empty and `is_last` is False, ask again after its
        `to_seq`. Recent events come from memory.
        """
        self._ask(lambda: self._writer.state.fetch(group, after_seq, limit, max_bytes), done)

    def fetch_ahead(self, group: str, after_seq: int, limit: int, done: Done, max_bytes: int = 1 << 22) -> None:
        """Call done(Page) with the events of the next commit, in the form of `fetch`, before `on_commit` is called.

        Calls done(None) if the commit did not begin right after `after_seq`. Calls nothing, and costs nothing, until there is a
        commit.
        """
        self._writer.ahead.append((after_seq, lambda: self._writer.state.fetch(group, after_seq, limit, max_bytes), done))

    def acknowledge(self, group: str, seq: int) -> None:
        """`group` has handled the event, or was told of the gap. On disk within 50 ms, so that a crash can only cause duplicates.

        Has no effect for a seq that is already acknowledged, and for an unknown or removed group.
        """
        self._put((group, seq))

    def read(self, pattern: str, after_seq: int, limit: int, done: Done) -> None:
        """Call done(Page) with events whose type matches `pattern`, for browsing. Changes no group."""
        self._ask(lambda: self._writer.state.read(after_seq, limit, compile(pattern).matches), done)

    # --- groups ---------------------------------------------------------------------------------------------------------

    def ensure_group(self, group: Group, done: Done) -> None:
        """Keep events for `group` from now on, and call done(cursor): fetch after this seq.

        A known group keeps its cursor and takes the new limits and details. The call also counts as a sign of life. Calls
        done(GroupConflict) if the group was declared with another pattern: its pattern never changes.
        """
        self._ask(lambda: self._writer.state.ensure(group), done)

    def remove_group(self, name: str, done: Done) -> None:
        """Delete a group, its cursor, its gaps and its dead letters. Calls done(True), or done(False) for an unknown group."""
        self._ask(lambda: self._writer.state.remove(name), done)

    def groups(self) -> list[Group]:
        """The groups for which events are kept. Does not read the disk."""
        return [group_state.group for group_state in list(self._writer.state.groups.values())]

    def seen(self, group: str) -> None:
        """A member of the group is connected, so `expires_after` counts from now. Acknowledging has the same effect."""
        self._ask(lambda: self._writer.state.seen(group), _ignore)

    def rewind(self, group: str, done: Done, *, to_seq: int | None = None, to_time: float | None = None) -> None:
        """Deliver kept events again: those after `to_seq`, or from `to_time` (wall clock) on.

        Calls done(cursor), for DeliverySchedule.rewound, or done(JournalError) for an unknown group.
        """
        self._ask(lambda: self._writer.state.rewind(group, to_seq, to_time), done)

    # --- dead letters ---------------------------------------------------------------------------------------------------

    def bury(
        self, group: str, event: StoredEvent, error: dict[str, Any], attempts: int, done: Done | None = None
    ) -> None:
        """Make the event a dead letter of the group, and acknowledge it. Calls done(None) once the letter is committed.

        Calls done(error) if that failed. Then nothing has changed, and the event is delivered again after a restart.
        """
        self._ask(lambda: self._writer.dead_letters.bury(group, event, error, attempts), done or _ignore)

    def dead_letters(self, group: str | None, limit: int, done: Done, after: int = 0) -> None:
        """Call done(list of (group name, DeadLetter)) with dead letters after the seq `after`, oldest first.

        For None, of all groups.
        """
        self._ask(lambda: self._writer.dead_letters.listed(group, limit, after), done)

    def requeue(self, group: str, seqs: Iterable[int] | None, done: Done) -> None:
        """Deliver dead letters again (None: all). Calls done(list of StoredEvent), for DeliverySchedule.requeued.

        They stay on disk until they are acknowledged, and become dead letters again if they are buried again.
        """
        self._ask(lambda: self._writer.dead_letters.requeue(group, seqs), done)

    def requeued(self, group: str, done: Done) -> None:
        """Call done(list of StoredEvent) with the requeued dead letters that are not acknowledged yet.

        For `DeliverySchedule.requeued` after a restart.
        """
        self._ask(lambda: self._writer.dead_letters.requeued(group), done)

    def drop(self, group: str, seqs: Iterable[int] | None, done: Done) -> None:
        """Delete dead letters (None: all). Calls done(their number)."""
        self._ask(lambda: self._writer.dead_letters.drop(group, seqs), done)

    # --- the end --------------------------------------------------------------------------------------------------------

    def close(self, done: Done | None = None) -> None:
        """Commit all appended events and acknowledgements, and release the slot. A second call has no effect.

        With `done`, returns at once, and the journal's thread calls done(None) as the last thing that it does. Without it, the
        calling thread (not greenlet) waits. Later appends get JournalError.
        """
        self._writer.stop(done)

    def discard(self, done: Done) -> None:
        """As close, and delete the files if they hold nothing: for an orphan whose events are all handled.

        Calls done(True) if the files were deleted, done(False) if they still hold something. The journal is closed in both cases.
        """
        self._writer.stop(done, discards=True)


def _stats_of(group_state: GroupState, now: float) -> GroupStats:
    oldest_at = group_state.oldest_at
    return GroupStats(
        group=group_state.group,
        cursor=group_state.acked.cursor,
        waiting=group_state.waiting,
        oldest_age=None if oldest_at is None or not group_state.waiting else max(0.0, now - oldest_at),
        dead_letters=group_state.dead_letters,
        lost=group_state.lost,
        idle=max(0.0, now - group_state.seen_at),
        has_expired=group_state.has_expired,
    )


def _check(sync: str, max_bytes: int, when_full: str, **seconds: float | None) -> None:
    if sync not in ("normal", "full"):
        raise ConfigurationError(f"sync is {sync!r}; 'normal' or 'full' is needed")
    if when_full not in ("block", "drop-oldest"):
        raise ConfigurationError(f"when_full is {when_full!r}; 'block' or 'drop-oldest' is needed")
    if max_bytes < 1:
        raise ConfigurationError(f"max_bytes is {max_bytes!r}; a positive number of bytes is needed")
    for name, value in seconds.items():
        if value is not None and value < 0:
            raise ConfigurationError(f"{name} is {value!r}; seconds from 0 on are needed")


def _ignore(result: Any) -> None:
    """The result is ignored."""
