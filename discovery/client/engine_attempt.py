"""The two native threads of one session with an engine: one writes and renews, the other one watches.

Internal.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from discovery import protocol
from discovery.client.engine_session import Change, Contents, EngineSession, Gone, Vacant
from discovery.client.locks import EngineLocks
from discovery.client.patience import RENEW_AGAIN
from discovery.exceptions import EngineError, EngineOverdueError, EngineRefusal
from discovery.interest import Interest
from discovery.model import Note, Record
from discovery.native import Log, NativeEvent, NativeThread, end_hub, native_lock
from discovery.security.revocations import FoundList, Revocations

_log = Log(__name__)

#: Seconds of writing after which the thread checks whether leases must be renewed.
TASKS_WITHIN = 0.5


class EngineThreads:
    """The native threads of all attempts at one engine."""

    def __init__(self) -> None:
        self._running: set[NativeThread] = set()

    def start(self, target: Callable[[], None], name: str) -> None:
        """Starts a thread. RuntimeError when no thread can be made."""
        for thread in list(self._running):
            if thread.join(0.0, blocking=True):
                self._running.discard(thread)
        thread = NativeThread(target, name)
        thread.start()
        self._running.add(thread)

    def join(self, timeout: float) -> None:
        """Waits until all threads have ended, at most `timeout` seconds."""
        end = time.monotonic() + timeout
        for thread in list(self._running):
            thread.join(max(0.0, end - time.monotonic()), blocking=True)


@dataclass(frozen=True, slots=True)
class Extended:
    """The records under keys that came into the interest: the answer to `extend`."""

    keys: frozenset[str]
    records: list[Record]


News = Contents | Extended | EngineError | list[protocol.Message]


class EngineAttempt:
    """The two threads of one session."""

    def __init__(
        self,
        address: str,
        session: EngineSession,
        interest: Interest,
        tell: Callable[[EngineAttempt, News], None],
        threads: EngineThreads,
        locks: EngineLocks,
    ) -> None:
        self._locks = locks
        self._must_tend = True
        self._has_refused_a_lock = False
        #: How many renewals in a row were overdue.
        self._overdue = 0
        self._interest = interest
        #: Held while one thread reads records and hands them on, so that the other one does not hand on a later change first.
        self._order = native_lock()
        self._extensions: deque[frozenset[str]] = deque()
        self._address = address
        self._threads = threads
        self._session = session
        self._tell = lambda news: tell(self, news)
        self._tasks: deque[protocol.Message] = deque()
        self._wake = NativeEvent()
        self._is_over = False
        #: Instances that were announced through this session and have not been withdrawn.
        self._own: dict[str, Record] = {}

    @property
    def has_records(self) -> bool:
        """Whether records were announced through this session."""
        return bool(self._own)

    def start(self) -> None:
        """Starts the writing thread, which starts the watching one. RuntimeError when no thread can be made."""
        self._threads.start(self._work, "discovery-engine")

    def take(self, message: protocol.Message) -> None:
        """Gives a message to the writing thread. Callable from any thread."""
        self._tasks.append(message)
        self._wake.set()

    def extend(self, keys: frozenset[str]) -> None:
        """Has the writing thread read the records under these keys as well. Callable from any thread."""
        self._extensions.append(keys)
        self._wake.set()

    def tend(self) -> None:
        """Has the writing thread look after all locks, since one is wanted, was released, or has become free."""
        self._must_tend = True
        self._wake.set()

    def end(self) -> None:
        """Tells both threads to end, and does not wait for that."""
        self._is_over = True
        self._wake.set()

    def _work(self) -> None:
        try:
            self._tell(self._session.open(self._interest))
            self._threads.start(self._watch, "discovery-engine-watch")
            self._tend()
            keep_at = time.monotonic() + self._session.keep_every()
            while not self._is_over:
                if not self._tasks:
                    self._wake.wait(max(0.0, keep_at - time.monotonic()), blocking=True)
                self._wake = NativeEvent()
                # Only after the event was replaced: whatever is handed over from now on sets the new one.
                self._extend()
                self._tend()
                # Leases are renewed between tasks: to write many records may take longer than a lease lasts.
                until = min(keep_at, time.monotonic() + TASKS_WITHIN)
                while self._tasks and not self._is_over and time.monotonic() < until:
                    self._do(self._tasks.popleft())
                now = time.monotonic()
                if now >= keep_at and not self._is_over:
                    keep_at = now + self._keep()
                    self._tend()
                # A record with a shorter lease may have been announced.
                keep_at = min(keep_at, now + self._session.keep_every())
            self._release()
        except Exception as exc:
            self._fail(exc)
        finally:
            self._session.close()
            end_hub()

    def _keep(self) -> float:
        """Renews the leases. Returns the seconds until they must be renewed again."""
        try:
            lost = self._session.keep()
        except EngineOverdueError as exc:
            self._overdue += 1
            if not self._session.goes_on(self._overdue):
                raise
            _log.info("directory %s is slow, and is asked again: %s", self._address, exc)
            return RENEW_AGAIN
        self._overdue = 0
        self._tell([protocol.Unknown(lost)] if lost else [])
        self._must_tend = True
        return self._session.keep_every()

    def _tend(self) -> None:
        """Takes, confirms and releases locks."""
        if not self._must_tend or self._is_over:
            return
        self._must_tend = False
        self._release()
        for lock in self._locks.wanted():
            try:
                lock.grant(self._session.take_lock(lock, self._locks.seconds))
            except EngineRefusal as exc:
                lock.grant(None)
                if not self._has_refused_a_lock:
                    self._has_refused_a_lock = True
                    _log.warning("cannot lock %r at directory %s: %s", lock.name, self._address, exc)

    def _release(self) -> None:
        for lock in self._locks.released():
            try:
                self._session.release_lock(lock)
            except EngineRefusal as exc:
                _log.warning("cannot unlock %r at directory %s: %s", lock.name, self._address, exc)
            # Only after the answer: a lease may outlive this session, and a lock that is not released would then stay.
            self._locks.has_answered(lock)

    def _extend(self) -> None:
        """Reads the records for all waiting extensions at once."""
        keys: frozenset[str] = frozenset()
        while self._extensions:
            keys |= self._extensions.popleft()
        if keys and not self._is_over:
            with self._order:
                self._tell(Extended(keys, self._session.extend(keys)))

    def _watch(self) -> None:
        try:
            for changes in self._session.watch():
                if self._is_over:
                    break
                with self._order:
                    self._tell(list(self._messages(changes)))
            else:
                if not self._is_over:
                    raise EngineError("it ended the watch")
        except Exception as exc:
            self._fail(exc)
        finally:
            end_hub()

    def _fail(self, exc: Exception) -> None:
        if self._is_over:
            return  # The session was closed while it was in use; its error tells nothing.
        self.end()
        if not isinstance(exc, EngineError):
            _log.exception("the session with directory %s failed", self._address)
            exc = EngineError(f"its session failed: {exc!r:.200}")
        self._tell(exc)

    def _messages(self, changes: Iterable[Change]) -> Iterator[protocol.Message]:
        for change in changes:
            match change:
                case Record():
                    yield protocol.Update(0, "", change, 0.0, False)
                    own = self._own.get(change.instance)
                    if own is not None and own.signed is not None and change.signed != own.signed:
                        # Another process has overwritten it.
                        yield protocol.Unknown([change.instance])
                case Vacant():
                    self.tend()
                case Note():
                    yield protocol.NotesChanged(0, "", [change])
                case FoundList(signed):
                    yield protocol.Revoked([signed])
                case Gone(instance):
                    yield protocol.Drop(0, "", instance, 0, 0, False)
                    if instance in self._own:
                        # Another process deleted it, or its lease ran out while this process stood still.
                        yield protocol.Unknown([instance])

    def _do(self, message: protocol.Message) -> None:
        match message:
            case protocol.Register(request, record):
                self._own[record.instance] = record
                self._ask(request, lambda: self._session.put_record(record))
            case protocol.Withdraw(request, namespace, instance):
                self._own.pop(instance, None)
                self._ask(request, lambda: self._session.delete_record(namespace, instance))
            case protocol.PutNotes(request, notes):
                self._ask(request, lambda: self._put_notes(notes))
            case protocol.Revoked(lists):
                self._put_revoked(lists)

    def _put_revoked(self, lists: list[bytes]) -> None:
        for signed in lists:
            try:
                self._session.put_revoked(Revocations.from_bytes(signed))
            except EngineRefusal as exc:
                self._tell([protocol.Refused(0, f"the list of revoked certificates: {exc}")])

    def _put_notes(self, notes: list[Note]) -> None:
        """Puts all notes that may be put. EngineRefusal, the first one, if some may not."""
        refusal: EngineRefusal | None = None
        for note in notes:
            try:
                self._session.put_note(note)
            except EngineRefusal as exc:
                refusal = refusal or exc
        if refusal is not None:
            raise refusal

    def _ask(self, request: int, do: Callable[[], object]) -> None:
        try:
            do()
        except EngineRefusal as exc:
            self._tell([protocol.Refused(request, str(exc))])
        else:
            self._tell([protocol.Ack(request)])
