"""A directory kept by an engine that people run anyway, such as etcd: what one must offer, and how its answers are heard.

An engine is written as a session: blocking calls that run in native threads of their own. `EngineConnection` makes a session
look like a connection to one registry, so that merging, notes, the cache and flushes are the same for every kind.

Rule 1: a session is used by two threads, one that writes and one in `watch`; `close` alone may come from a third.
Rule 2: an attempt that failed is over. The next one has a session of its own, which reads everything anew.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import zmq

from discovery import protocol
from discovery.client.connection import CONNECTING, UP, WAITING, DirectoryConnection, DirectoryListener, Post
from discovery.client.locks import EngineLock, EngineLocks, Held
from discovery.client.revocation_exchange import RevocationExchange
from discovery.client.seeds import Done
from discovery.exceptions import EngineError, EngineRefusal
from discovery.interest import EVERYTHING, Interest, grown
from discovery.model import Note, Record
from discovery.native import Log, NativeEvent, NativeThread, end_hub, native_lock
from discovery.security.keys import Keys
from discovery.security.revocations import FoundList, Revocations

_log = Log(__name__)

NEVER = float("inf")
#: Seconds for which an engine that lost what it held (another cluster answers at the same place) is not believed about what
#: it does not list; instances need that long to announce themselves again.
WARM_UP = 10.0
#: Seconds of writing after which a session looks whether leases are to be renewed.
TASKS_WITHIN = 0.5
#: Seconds that the threads of a session get to end when a directory stops, however little time it was given.
SHORTEST_JOIN = 0.5


@dataclass(frozen=True, slots=True)
class Gone:
    """The engine lists an instance no more: it was withdrawn, or its lease ran out."""

    instance: str


@dataclass(frozen=True, slots=True)
class Vacant:
    """A lock is free that another process held."""


Change = Record | Note | FoundList | Gone | Vacant


@dataclass(frozen=True, slots=True)
class Contents:
    """What an engine holds of a namespace. `cluster` tells one that lost everything from the one before.

    `interest`: the records are all that it holds of these; EVERYTHING of an engine that cannot choose.
    `revoked`: lists of revoked certificates, or what stands in their place.
    """

    cluster: str
    records: list[Record]
    notes: list[Note]
    interest: Interest = EVERYTHING
    revoked: tuple[bytes, ...] = ()


class EngineSession(Protocol):
    """One attempt at an engine. EngineError, whose text is for users, ends it; EngineRefusal is about one record or note."""

    def open(self, interest: Interest) -> Contents:
        """Connects and reads the records of interest, and all notes."""

    def extend(self, keys: frozenset[str]) -> list[Record]:
        """Reads the records under these keys as well; from now on `watch` tells of their changes, too.

        Called only where `open` told less than everything. What `watch` yields while this runs is handed on after it.
        """

    def watch(self) -> Iterator[Iterable[Change]]:
        """All changes of interest after what `open` returned, in their order; ends when the session is closed.

        What it yields is gone through once, and never while `extend` runs: it may read what has changed only then.
        """

    def put_record(self, record: Record) -> None:
        """Stores a record, leased for its ttl until `keep` comes again."""

    def delete_record(self, namespace: str, instance: str) -> None:
        """Deletes a record; one that is not there is passed over."""

    def put_note(self, note: Note) -> None:
        """Stores a note or tombstone, unless one of a higher rank is there."""

    def put_revoked(self, revoked: Revocations) -> None:
        """Stores a list for all namespaces, unless a newer one of its authority is there. Only asked of a closed cluster's."""

    def take_lock(self, lock: EngineLock, seconds: float) -> Held | None:
        """Takes a lock with a lease of so many seconds, or makes sure that it is held still. None while another one holds it."""

    def release_lock(self, lock: EngineLock) -> None:
        """Gives a lock back; one that is not held is passed over."""

    def keep(self) -> list[str]:
        """Renews the leases, and makes sure that the engine answers. Returns own instances whose lease is lost."""

    def keep_every(self) -> float:
        """Seconds until `keep` is to be called again."""

    def close(self) -> None:
        """Ends `watch` and lets go of the connections. Called once or more, from any thread."""


class EngineSeed:
    """An engine at one URL; `url` has no password in it. `session` makes one for a namespace (None: for all).

    `keys`: this node's, whose lists of revoked certificates are told to others through the engine.
    """

    hint = ""
    valid_for = NEVER
    is_partial = False

    def __init__(
        self, url: str, session: Callable[[str | None], EngineSession], seconds: float, keys: Keys | None = None
    ) -> None:
        self.url = url
        self._keys = keys
        self.session = session
        #: `seconds`: the lease of a lock.
        self.locks = EngineLocks(seconds)
        self._threads = _Threads()

    def prepare(self, done: Done) -> None:
        """The session itself finds the servers."""
        done([self.url], None)

    def connection(
        self, address: str, namespace: str | None, listener: DirectoryListener, longest_pause: float, post: Post
    ) -> EngineConnection:
        """The connection to this engine."""
        return EngineConnection(
            address, lambda: self.session(namespace), listener, longest_pause, post, self._threads, self.locks, self._keys
        )

    def close(self, timeout: float) -> None:
        """Waits until the threads of all attempts are over.

        In a patched process each has a gevent hub of its own, and an interpreter that ends beside such a thread may crash.
        """
        self._threads.join(max(timeout, SHORTEST_JOIN))


class _Threads:
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
        """Waits until all threads are over, at most `timeout` seconds."""
        end = time.monotonic() + timeout
        for thread in list(self._running):
            thread.join(max(0.0, end - time.monotonic()), blocking=True)


class EngineConnection(DirectoryConnection):
    """What `RegistryConnection` is for a registry, for an engine. Used on the directory's own thread only."""

    def __init__(
        self,
        address: str,
        session: Callable[[], EngineSession],
        listener: DirectoryListener,
        longest_pause: float,
        post: Post,
        threads: _Threads,
        locks: EngineLocks,
        keys: Keys | None = None,
    ) -> None:
        super().__init__(address, listener, longest_pause)
        self._revocations = None if keys is None else RevocationExchange(keys, address)
        self._locks = locks
        self._session = session
        self._post = post
        self._threads = threads
        self._attempt: _Attempt | None = None
        self._warm_at = NEVER
        self._has_warned = False

    def open(self, now: float) -> None:
        """Begins an attempt; `retry_at` has come."""
        self.state = CONNECTING
        self.opened_at = now
        self.asked = self._listener.interest
        self._attempt = _Attempt(self.address, self._session(), self.asked, self._hand_over, self._threads, self._locks)
        self._locks.changed = self._attempt.tend
        try:
            self._attempt.start()
        except RuntimeError as exc:
            self.close(now, f"no thread for it: {exc}")

    def _close(self) -> None:
        if self._attempt is not None:
            self._attempt.end()
            self._attempt = None
        self._warm_at = NEVER

    def register_with(self, poller: zmq.Poller) -> None:
        """There is nothing to poll: the threads of an attempt hand over what they hear."""

    def next_deadline(self) -> float:
        """When `check` has something to do."""
        return self.retry_at if self.state == WAITING else self._warm_at

    def send(self, message: protocol.Message) -> bool:
        """True when the attempt took it."""
        if self._attempt is None or self.state != UP:
            return False
        self._attempt.take(message)
        return True

    def extend(self, keys: Interest, now: float) -> None:
        """Hands the question to the attempt. Everything is read by a session of its own."""
        if keys is None or self._attempt is None:
            self.close(now, "everything is asked for from now on")
            return
        self.asked = grown(self.asked, keys)
        self._attempt.extend(keys)

    def handle(self, ready: dict[Any, int], now: float) -> None:
        """Nothing was polled."""

    def check(self, now: float) -> None:
        """Ends the warm-up, and offers the engine what was revoked meanwhile. Called once a second at least."""
        if self._revocations is not None and self.state == UP:
            self._offer(self._revocations.due())
        if now >= self._warm_at:
            self._warm_at = NEVER
            self.is_warming = False
            self._listener.on_message(self, protocol.Heartbeat(0, str(self.boot_id), False), now)

    def _hand_over(self, attempt: _Attempt, news: _News) -> None:
        """Called by the threads of an attempt."""
        self._post(lambda now: self._take(news, now) if attempt is self._attempt else None)

    def _take(self, news: _News, now: float) -> None:
        if isinstance(news, EngineError):
            if not self._has_warned:
                self._has_warned = True
                _log.warning("cannot use directory %s: %s", self.address, news)
            self.close(now, str(news))
            return
        self.last_contact = now
        if isinstance(news, Contents):
            self._up(news, now)
        elif isinstance(news, _Extended):
            for record in news.records:
                self._listener.on_message(self, protocol.Update(0, "", record, 0.0, False), now)
            self.answered = grown(self.answered, news.keys)
            self._listener.on_extended(self, now)
        elif self.state == UP:
            for message in news:
                if isinstance(message, protocol.Revoked):
                    self._on_revoked(message.lists)
                else:
                    self._listener.on_message(self, message, now)

    def _on_revoked(self, lists: list[bytes]) -> None:
        if self._revocations is not None:
            for signed in lists:
                self._offer(self._revocations.came(signed))

    def _offer(self, lists: list[bytes]) -> None:
        if lists:
            self.send(protocol.Revoked(lists))

    def _up(self, contents: Contents, now: float) -> None:
        # Another cluster than before has no records yet: they come within one renewal of everybody.
        self.is_warming = self.boot_id not in (None, contents.cluster)
        self._warm_at = now + WARM_UP if self.is_warming else NEVER
        self.boot_id = contents.cluster
        self.asked = self.answered = contents.interest
        self.state = UP
        self.error = None
        self.failures = 0
        self._has_warned = False
        entries = [(record, 0.0, False) for record in contents.records]
        part = protocol.Snapshot(0, contents.cluster, self.is_warming, 0, 1, entries, contents.notes)
        if self._revocations is not None:
            # Before the records: some of them may be those of revoked nodes.
            self._offer(self._revocations.opened(contents.revoked))
        self._listener.on_up(self, [part], now)


@dataclass(frozen=True, slots=True)
class _Extended:
    """The answer to an extension of the interest."""

    keys: frozenset[str]
    records: list[Record]


_News = Contents | _Extended | EngineError | list[protocol.Message]


class _Attempt:
    """The two threads of one session."""

    def __init__(
        self,
        address: str,
        session: EngineSession,
        interest: Interest,
        tell: Callable[[_Attempt, _News], None],
        threads: _Threads,
        locks: EngineLocks,
    ) -> None:
        self._locks = locks
        self._must_tend = True
        self._has_refused_a_lock = False
        self._interest = interest
        #: Held while something is read and handed on, so that no change of it is handed on before.
        self._order = native_lock()
        self._extensions: deque[frozenset[str]] = deque()
        self._address = address
        self._threads = threads
        self._session = session
        self._tell = lambda news: tell(self, news)
        self._tasks: deque[protocol.Message] = deque()
        self._wake = NativeEvent()
        self._is_over = False
        #: Instances that were announced through this session, and not withdrawn since.
        self._own: dict[str, Record] = {}

    def start(self) -> None:
        """Begins it. RuntimeError when no thread can be made."""
        self._threads.start(self._work, "discovery-engine")

    def take(self, message: protocol.Message) -> None:
        """Hands a message to the thread that writes."""
        self._tasks.append(message)
        self._wake.set()

    def extend(self, keys: frozenset[str]) -> None:
        """Hands a question to the thread that writes."""
        self._extensions.append(keys)
        self._wake.set()

    def tend(self) -> None:
        """A lock is wanted, released or free: have the thread that writes look after all of them."""
        self._must_tend = True
        self._wake.set()

    def end(self) -> None:
        """Both threads end as soon as they can."""
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
                # After the new event is there: what comes from now on sets that one.
                self._extend()
                self._tend()
                # Renewals come between the tasks: many records may take longer to write than their lease lasts.
                until = min(keep_at, time.monotonic() + TASKS_WITHIN)
                while self._tasks and not self._is_over and time.monotonic() < until:
                    self._do(self._tasks.popleft())
                now = time.monotonic()
                if now >= keep_at and not self._is_over:
                    lost = self._session.keep()
                    self._tell([protocol.Unknown(lost)] if lost else [])
                    keep_at = now + self._session.keep_every()
                    self._must_tend = True
                    self._tend()
                # A record with a shorter lease may have come.
                keep_at = min(keep_at, now + self._session.keep_every())
            self._release()
        except Exception as exc:
            self._fail(exc)
        finally:
            self._session.close()
            end_hub()

    def _tend(self) -> None:
        """Takes, confirms and gives back locks."""
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
        for lock in self._locks.take_released():
            try:
                self._session.release_lock(lock)
            except EngineRefusal as exc:
                _log.warning("cannot unlock %r at directory %s: %s", lock.name, self._address, exc)

    def _extend(self) -> None:
        """Answers all questions that wait, at once."""
        keys: frozenset[str] = frozenset()
        while self._extensions:
            keys |= self._extensions.popleft()
        if keys and not self._is_over:
            with self._order:
                self._tell(_Extended(keys, self._session.extend(keys)))

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
            return  # What a session that is closed under its own feet says is of no use.
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
                        # Somebody else has written in its place.
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
                        # Deleted by somebody else, or its lease ran out while this process stood still.
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
        try:
            for signed in lists:
                self._session.put_revoked(Revocations.from_bytes(signed))
        except EngineRefusal as exc:
            self._tell([protocol.Refused(0, f"the list of revoked certificates: {exc}")])

    def _put_notes(self, notes: list[Note]) -> None:
        for note in notes:
            self._session.put_note(note)

    def _ask(self, request: int, do: Callable[[], object]) -> None:
        try:
            do()
        except EngineRefusal as exc:
            self._tell([protocol.Refused(request, str(exc))])
        else:
            self._tell([protocol.Ack(request)])
