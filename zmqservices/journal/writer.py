"""The journal's thread: takes posted events and questions, commits the events in groups, and answers.

Group commit needs no waiting: the events that are posted while one commit runs make up the next commit.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable
from time import monotonic, time
from typing import Any

from zmqservices.exceptions import JournalError, JournalFull
from zmqservices.journal import mailbox
from zmqservices.journal.blocks import OVERHEAD, Damaged, size_of
from zmqservices.journal.dead_letters import DeadLetters
from zmqservices.journal.events import DeadLettersDropped, NewEvent, Notice, Page
from zmqservices.journal.file_errors import explain, is_damage
from zmqservices.journal.journal_state import JournalState
from zmqservices.journal.recovery import open_state, repair
from zmqservices.journal.retention import Bounds, Retention
from zmqservices.journal.slots import Slot, SlotMark
from zmqservices.utils.native_threads import start_thread

#: Called once with a result, or with an exception (not raised).
Done = Callable[[Any], None]
#: An event, and the callback that gets its seq.
Append = tuple[NewEvent, Done]

#: The most events and bytes of one commit.
EVENTS_PER_COMMIT = 512
BYTES_PER_COMMIT = 1 << 20
#: Items taken from the mailbox between two readings of the clock.
ITEMS_AT_A_TIME = 4096
#: Seconds after which acknowledgements are written to the disk.
FLUSH_INTERVAL = 0.05
#: Seconds between two searches for old events; also the pause before a failed disk is tried again.
SWEEP_INTERVAL = 1.0

_NEVER = float("inf")


class Writer:
    """Runs on its own thread from `start` until `stop`. Only the thread uses its attributes, except `mailbox` and `ahead`."""

    def __init__(
        self,
        slot: Slot,
        sync: str,
        bounds: Bounds,
        full_timeout: float,
        on_notice: Callable[[Notice], None],
        on_commit: Callable[[int], None],
    ) -> None:
        self.mailbox = mailbox.Mailbox()
        self.slot = slot
        #: The error of the disk, until a commit succeeds again.
        self.trouble: str | None = None
        self.blocked: deque[tuple[float, Append]] = deque()
        #: Reads to do right after the next commit: (seq after which the commit must begin, question, done).
        self.ahead: deque[tuple[int, Callable[[], Page], Done]] = deque()
        self.state: JournalState
        self._sync = sync
        self._bounds = bounds
        self._full_timeout = full_timeout
        self._on_notice = lambda notice: mailbox.call(on_notice, notice)
        self._on_commit = on_commit
        self._failure: Exception | None = None
        self._ready = mailbox.Flag()
        self._over = mailbox.Flag()
        self._on_stopped: list[Done] = []
        self.has_ended = False
        self._discards = False
        self._is_running = True
        self._flush_at = _NEVER
        self._sweep_at = 0.0

    # --- from other threads ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread. Returns when the journal is open. Raises sqlite3.Error, JournalError and OSError."""
        start_thread(self._run)
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self, done: Done | None, discards: bool = False) -> None:
        """Stop the thread once it has done all earlier jobs. Blocks until the end, or calls `done` then.

        `discards`: delete the files if they hold nothing; `done` gets whether they were deleted.
        """
        self._discards = self._discards or discards
        self.put((None, self._stop, done or _ignore))
        if done is None:
            self._over.wait()

    def put(self, thing: object) -> None:
        """Post (event, done) to append, (group, seq) to acknowledge, or (None, question, done) to ask."""
        self.mailbox.put(thing)
        if self.has_ended:
            self._refuse_rest()

    def _refuse_rest(self) -> None:
        # Called by the thread as it ends, and by callers that post after that.
        closed = JournalError(f"journal {str(self.slot.path)!r} is closed")
        while self.mailbox.items:
            try:
                thing = self.mailbox.items.popleft()
            except IndexError:
                return
            if thing[0].__class__ is not str:
                mailbox.call(thing[-1], None if thing[1] == self._stop else closed)

    # --- the thread -----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._use(open_state(self.slot, self._sync, time, self._on_notice))
        except Exception as exc:
            self._failure = exc
            self.slot.release()
            self._ready.set()
            return
        self._ready.set()
        while self._is_running:
            self.mailbox.wait(self._timeout())
            self._work()
        self._end()

    def _use(self, state: JournalState) -> None:
        self.state = state
        self.retention = Retention(state, self._bounds, self._on_notice)
        self.dead_letters = DeadLetters(state)
        self._flush_at = 0.0

    def _timeout(self) -> float | None:
        next_at = min(self._flush_at, self._sweep_at, self.blocked[0][0] if self.blocked else _NEVER)
        return None if next_at == _NEVER else next_at - monotonic()

    def _work(self) -> None:
        things, size = self.mailbox.items, 0
        batch: list[Append] = []
        for _ in range(min(len(things), ITEMS_AT_A_TIME)):
            thing = things.popleft()
            kind = thing[0]
            if kind.__class__ is str:
                self._acknowledge(*thing)
            elif kind is None:
                self._append(batch)
                batch, size = [], 0
                self._answer(*thing[1:])
            else:
                batch.append(thing)
                size += len(kind[1])
                if len(batch) >= EVENTS_PER_COMMIT or size >= BYTES_PER_COMMIT:
                    self._append(batch)
                    batch, size = [], 0
        self._append(batch)
        self._keep_house()

    def _acknowledge(self, name: str, seq: int) -> None:
        self.state.acknowledge(name, seq)
        self._flush_soon()

    def _answer(self, ask: Callable[[], Any], done: Done) -> None:
        if ask == self._stop:
            self._is_running = False
            self._on_stopped.append(done)
        else:
            mailbox.call(done, self._try(ask))
            self._flush_soon()

    def _try(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except Exception as exc:
            return self._failed(exc)

    def _failed(self, exc: Exception) -> Exception:
        """The error that the caller gets. A damaged file is repaired first."""
        if is_damage(exc):
            self._repair()
        if isinstance(exc, (sqlite3.Error, Damaged)):
            error = explain(self.slot.path, exc)
            self.trouble = str(error)
            return error
        return exc

    def _repair(self) -> None:
        old = self.state
        old.store.close()
        try:
            self._use(repair(self.slot, self._sync, time, self._on_notice, old.groups, old.last_seq))
        except Exception as exc:
            self.trouble = str(explain(self.slot.path, exc))

    # --- appending ------------------------------------------------------------------------------------------------------

    def _append(self, batch: list[Append]) -> None:
        if self.blocked:
            self._block(batch)
        elif batch:
            if _bytes_of(batch) <= self.retention.free:
                self._commit(batch)
            else:
                self._append_what_fits(self._possible(batch))

    def _append_what_fits(self, batch: list[Append]) -> None:
        fitting = self._fitting(batch)
        if fitting:
            self._commit(batch[:fitting])
        self._block(batch[fitting:])

    def _block(self, batch: list[Append]) -> None:
        until = monotonic() + self._full_timeout
        self.blocked.extend((until, item) for item in self._possible(batch))

    def _possible(self, batch: list[Append]) -> list[Append]:
        """The events that can fit into the journal. Larger events are refused at once, and nothing is deleted for them."""
        possible = []
        for event, done in batch:
            if size_of(event) + OVERHEAD <= self._bounds.max_bytes:
                possible.append((event, done))
            else:
                limit = self._bounds.max_bytes
                mailbox.call(done, JournalFull(f"an event of {size_of(event)} bytes cannot fit the journal's max_bytes, {limit}"))
        return possible

    def _fitting(self, batch: list[Append]) -> int:
        """The number of events, from the first on, for which there is room."""
        wanted = min(_bytes_of(batch), self._bounds.max_bytes)
        room = self._try(lambda: self.retention.room(wanted))
        if isinstance(room, Exception):
            room = self.retention.free
        room -= OVERHEAD
        for n, (event, _) in enumerate(batch):
            room -= size_of(event)
            if room < 0:
                return n
        return len(batch)

    def _commit(self, batch: list[Append]) -> None:
        try:
            first = self._commit_or_make_room([event for event, _ in batch])
        except Exception as exc:
            self._not_committed(batch, exc)
            return
        self.trouble = None
        for seq, (_, done) in enumerate(batch, first):
            mailbox.call(done, seq)
        self._read_ahead(first - 1)
        mailbox.call(self._on_commit, self.state.last_seq)
        self._flush_soon()

    def _read_ahead(self, after: int) -> None:
        """Answer the groups that asked for the next commit. A group whose cursor is elsewhere gets None, and fetches."""
        for _ in range(len(self.ahead)):
            asked_after, ask, done = self.ahead.popleft()
            mailbox.call(done, self._try(ask) if asked_after == after else None)

    def _commit_or_make_room(self, events: list[NewEvent]) -> int:
        try:
            return self.state.commit(events)
        except sqlite3.Error as exc:
            if not isinstance(explain(self.slot.path, exc), JournalFull):
                raise
        # The disk is full. SQLite's log and handled events can be deleted.
        self.state.store.make_room()
        self.retention.drop_handled()
        return self.state.commit(events)

    def _not_committed(self, batch: list[Append], exc: Exception) -> None:
        if len(batch) > 1 and not isinstance(exc, sqlite3.Error):
            # One of the events cannot be stored, so store the others one by one.
            for item in batch:
                self._commit([item])
            return
        error = self._failed(exc)
        for _, done in batch:
            mailbox.call(done, error)

    def _unblock(self, now: float) -> None:
        items = [item for _, item in self.blocked]
        fitting = self._fitting(items[:EVENTS_PER_COMMIT])
        if fitting:
            for _ in range(fitting):
                self.blocked.popleft()
            self._commit(items[:fitting])
        while self.blocked and self.blocked[0][0] <= now:
            _, (_, done) = self.blocked.popleft()
            mailbox.call(done, self.retention.full())

    # --- in between -----------------------------------------------------------------------------------------------------

    def _flush_soon(self) -> None:
        if self._flush_at == _NEVER:
            now = monotonic()
            self._flush_at = now + FLUSH_INTERVAL
            self._sweep_at = min(self._sweep_at, now + SWEEP_INTERVAL)

    def _keep_house(self) -> None:
        now = monotonic()
        if self.blocked:
            self._unblock(now)
        if now >= self._flush_at:
            self._flush(now)
        if now >= self._sweep_at:
            self._sweep(now)

    def _flush(self, now: float) -> None:
        self._flush_at = _NEVER
        failure = self._try(self._write_down)
        if isinstance(failure, Exception):
            self._flush_at = now + SWEEP_INTERVAL

    def _write_down(self) -> None:
        state = self.state
        state.flush()
        try:
            self.slot.leave_mark(SlotMark(state.store.id, state.last_seq, state.crc))
        except OSError as exc:
            raise explain(self.slot.path, exc) from exc

    def _sweep(self, now: float) -> None:
        has_more = self._try(self._sweep_once)
        # An empty journal needs no maintenance. The next append or question wakes the thread.
        is_idle = not self.state.size and not self.state.groups
        self._sweep_at = now if has_more is True else _NEVER if is_idle else now + SWEEP_INTERVAL

    def _sweep_once(self) -> bool:
        has_more = self.retention.sweep()
        self.retention.report_losses()
        self.state.note_ages()
        for name, count in self.dead_letters.bound(self._bounds.max_bytes // 2).items():
            self._on_notice(DeadLettersDropped(name, count))
        return self.state.store.give_back() or has_more

    # --- the end --------------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        """The job that ends the thread."""

    def _end(self) -> None:
        for _, (_, done) in self.blocked:
            mailbox.call(done, self.retention.full())
        self._try(self._write_down)
        self.retention.report_losses()
        is_empty = self.state.is_empty
        self._try(self.state.store.close)
        if self._discards and is_empty:
            self._try(self.slot.discard)
        self.slot.release()
        self.has_ended = True
        self._refuse_rest()
        for done in self._on_stopped:
            mailbox.call(done, is_empty if self._discards else None)
        self._over.set()


def _bytes_of(batch: list[Append]) -> int:
    return OVERHEAD + sum(size_of(event) for event, _ in batch)


def _ignore(result: Any) -> None:
    """The callback of callers that wait for the end in another way."""
