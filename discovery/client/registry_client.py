"""A directory kept by registries or engines. Usable from any thread and greenlet; it has one thread of its own.

Rule 1: only that thread touches the `ClientState`; other threads queue commands for it.
Rule 2: even under gevent it is a thread of the operating system, so that leases are renewed while a hub is busy.
"""

from __future__ import annotations

import atexit
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import zmq

from discovery import interest, protocol, sockets
from discovery.backend import Callback, Capabilities
from discovery.client.announcements import LeaseClaims
from discovery.client.cache import DiskCache
from discovery.client.locks import EngineLock, EngineLocks
from discovery.client.seeds import Seed
from discovery.client.state import ClientState
from discovery.client.verified import Gate, VerifiedCache
from discovery.client.waiters import Answered, Flush
from discovery.exceptions import DirectoryError
from discovery.interest import EVERYTHING, Interest
from discovery.model import DEFAULT_NOTE_TTL, LONGEST_KEY, Note, Record, Seen, View, is_key, quoted
from discovery.native import NativeThread, Wakeup, native_lock

#: The longest pause between attempts to connect to a registry, in seconds.
LONGEST_PAUSE = 3.0
#: Seconds that `stop` waits for the thread beyond the time given for withdrawals.
STOP_GRACE = 1.0

_Command = Callable[[float], None]


class RegistryClient:
    """The `Directory` over `local:` and `tcp:` URLs."""

    def __init__(
        self,
        name: str,
        seeds: list[Seed],
        namespace: str | None,
        cache_dir: Path | None = None,
        longest_pause: float = LONGEST_PAUSE,
        keeps_records: bool = True,
        capabilities: Capabilities = Capabilities(),  # noqa: B008
        wanted: Interest = EVERYTHING,
        locks: EngineLocks | None = None,
        gate: Gate | None = None,
    ) -> None:
        self._locks = locks
        #: Signs and verifies in a closed cluster.
        self._gate = gate
        self.name = name
        self.capabilities = capabilities
        self.namespace = namespace
        self._pid = os.getpid()
        self._lock = native_lock()
        self._commands: deque[_Command] = deque()
        self._wakeup = Wakeup()
        self._thread: NativeThread | None = None
        self._is_stopped = False
        self._claims = LeaseClaims()
        self._interest = wanted
        cache = None if cache_dir is None else DiskCache(cache_dir, name, namespace, keeps_records)
        if cache_dir is not None and gate is not None:
            cache = VerifiedCache(gate, cache_dir, name, namespace, keeps_records)
        self._client_state = ClientState(
            name, seeds, namespace, cache, longest_pause, self._post, time.monotonic(), wanted, gate
        )

    def start(self) -> None:
        """Starts connecting to the registries. A second call does nothing; DirectoryError after `stop`."""
        sockets.check_process(self._pid)
        with self._lock:
            if self._is_stopped:
                raise DirectoryError(f"directory {self.name} is stopped; open another one")
            if self._thread is not None:
                return
            self._thread = NativeThread(self._run, "discovery-directory")
        _running.add(self)
        self._thread.start()

    def stop(self, timeout: float = 1.0, blocking: bool = False) -> None:
        """Withdraws the announced records and ends the threads. Waits at most `timeout` seconds for registries to confirm."""
        if os.getpid() != self._pid:
            return  # This is a forked child; the thread belongs to the parent.
        with self._lock:
            was_stopped, self._is_stopped = self._is_stopped, True
            thread = self._thread
            records = self._claims.withdraw_all()
        if self._locks is not None:
            self._locks.release_all()
        if thread is None:
            self._wakeup.close()
            return
        if not was_stopped:
            self._post(lambda now: self._client_state.begin_to_stop(records, now, timeout))
        if not thread.is_current():
            thread.join(timeout + STOP_GRACE, blocking)

    def __enter__(self) -> RegistryClient:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def announce(self, record: Record) -> None:
        """Adds or replaces a record of this process, and renews its lease until `withdraw`. See `Directory.announce`."""
        sockets.check_process(self._pid)
        record = self._as_it_travels(record)
        with self._lock:
            if not self._is_stopped and self._claims.announce(record):
                self._commands.append(lambda now: self._client_state.announce(record, now))
        self._wakeup.wake()

    def withdraw(self, instance: str) -> None:
        """Removes a record of this process; subscribers learn of it at once."""
        sockets.check_process(self._pid)
        with self._lock:
            record = self._claims.withdraw(instance)
            if record is not None:
                own = record
                self._commands.append(lambda now: self._client_state.withdraw(own, now))
        self._wakeup.wake()

    def put(self, key: str, value: dict[str, Any], *, ttl: float = DEFAULT_NOTE_TTL, age: float = 0.0) -> None:
        """Stores a note for all clients of the namespace, for `ttl` seconds. See `Directory.put`."""
        sockets.check_process(self._pid)
        if self.namespace is None:
            raise DirectoryError("notes are of one namespace; this directory was opened for all")
        note = Note(self.namespace, key, _stamp(age), ttl, value)
        # Encoded and decoded, so that errors are raised here, and this process sees the note like all others.
        (note,) = protocol.decode(protocol.encode(protocol.PutNotes(0, [note]))).notes  # type: ignore[union-attr]
        self._check_note(note)
        if self.capabilities.stores_notes:
            self._post(lambda now: self._client_state.put(note, age <= 0, now))

    def delete(self, key: str) -> None:
        """Deletes the note under `key`, for all clients of the namespace. See `Directory.delete`."""
        sockets.check_process(self._pid)
        if self.namespace is None:
            raise DirectoryError("notes are of one namespace; this directory was opened for all")
        note = Note(self.namespace, key, _stamp(0.0))
        self._check_note(note)
        if self.capabilities.stores_notes:
            self._post(lambda now: self._client_state.put(note, True, now))

    def flush(self, timeout: float) -> bool:
        """True once every reachable registry, and at least one, has acknowledged all changes; False after `timeout` seconds."""
        sockets.check_process(self._pid)
        if self._is_stopped:
            return False
        if not (self.capabilities.can_announce or self.capabilities.stores_notes):
            return True  # Nothing is ever sent.
        flush = Flush()
        self._post(lambda now: self._client_state.flush(flush))
        try:
            return flush.done.wait(timeout) or flush.good_enough
        finally:
            self._post(lambda now: flush.done.set())  # Marks it for removal: this caller does not wait any more.

    def lock(self, name: str) -> EngineLock:
        """Waits, in the background, for a lock of the namespace. See `Directory.lock`."""
        sockets.check_process(self._pid)
        if self._locks is None:
            text = f"directory {self.name} holds no locks, so {name!r} is not locked; etcd:, zookeeper: or consul: alone does"
            raise DirectoryError(text)
        if self.namespace is None:
            raise DirectoryError("locks are of one namespace; this directory was opened for all")
        if not is_key(name):
            raise DirectoryError(f"the name of a lock is {quoted(name)}; a text of 1 to {LONGEST_KEY} characters is needed")
        return self._locks.new(self.namespace, name)

    def add_interest(self, services: Iterable[str] = (), sources: Iterable[str] = ()) -> None:
        """Also shows these services, and the records that subscribe to events of `sources`. See `Directory.add_interest`."""
        keys = interest.keys(services, sources)
        if interest.covers(self._interest, keys):
            return
        sockets.check_process(self._pid)
        with self._lock:
            self._interest = interest.grown(self._interest, keys)
            self._commands.append(lambda now: self._client_state.want(keys, now))
        self._wakeup.wake()

    def view(self) -> View:
        """All records and notes as they are known now."""
        sockets.check_process(self._pid)
        return self._client_state.published.view(time.monotonic())

    def service(self, name: str) -> list[Seen]:
        """The known instances of a service."""
        sockets.check_process(self._pid)
        return self._client_state.published.service(name, time.monotonic())

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Calls `callback(view)` soon, and again after each change, from the directory's own thread."""
        sockets.check_process(self._pid)
        token = object()
        self._post(lambda now: self._client_state.subscribe(token, callback))
        return lambda: self._post(lambda now: self._client_state.unsubscribe(token))

    def wait_ready(self, timeout: float, service: str | None = None) -> bool:
        """True once some registry has sent all records of the interest, or of one service; False after `timeout` seconds."""
        sockets.check_process(self._pid)
        if service is not None:
            self.add_interest([service])
        wanted = self._interest if service is None else interest.keys([service])
        end = time.monotonic() + timeout
        return self._client_state.ready.wait(timeout) and self._wait_answered(wanted, end - time.monotonic())

    def _wait_answered(self, wanted: Interest, timeout: float) -> bool:
        if interest.covers(self._client_state.answered, wanted):
            return True
        if timeout <= 0:
            return False
        waiting = Answered(wanted)
        self._post(lambda now: self._client_state.wait_answered(waiting))
        if waiting.done.wait(timeout):
            return interest.covers(self._client_state.answered, wanted)
        self._post(lambda now: waiting.done.set())  # So that it is removed: this caller waits no more.
        return False

    def describe(self) -> str:
        """Such as "directory tcp://10.0.0.5:4190 has been stale for 12 s"."""
        return f"directory {self.name}{self._client_state.published.describe(time.monotonic())}"

    def _as_it_travels(self, record: Record) -> Record:
        if self.namespace is not None and record.namespace != self.namespace:
            raise DirectoryError(
                f"the record of {record.service!r} is of namespace {record.namespace!r}; "
                f"this directory was opened for {self.namespace!r}"
            )
        if self._gate is not None:
            record = self._gate.signer.record(record)
        packed = protocol.pack(record.to_dict())
        if len(packed) > protocol.MAX_RECORD:
            raise DirectoryError(
                f"the record of {record.service!r} takes {len(packed)} bytes; {protocol.MAX_RECORD} are "
                "allowed, so shorten what it says of its methods"
            )
        # Decoded again, so that this process sees the record like all others: tuples become lists.
        return Record.from_dict(protocol.unpack(packed))

    def _check_note(self, note: Note) -> None:
        if self._gate is not None:
            self._gate.signer.check_note(note)

    def _post(self, command: _Command) -> None:
        with self._lock:
            self._commands.append(command)
        self._wakeup.wake()

    # --- the directory's own thread ---

    def _run(self) -> None:
        client_state = self._client_state
        try:
            client_state.restore(time.monotonic())
            while True:
                now = time.monotonic()
                self._do_commands(now)
                client_state.work(now)
                # Checked before the wait, so that a client with nothing to withdraw ends at once.
                if client_state.is_over(now):
                    break
                ready = self._wait(client_state.next_round(now) - now)
                client_state.take(ready, time.monotonic())
        finally:
            with self._lock:
                self._is_stopped = True
            client_state.finish(time.monotonic())
            self._wakeup.close()
            _running.discard(self)

    def _do_commands(self, now: float) -> None:
        for _ in range(len(self._commands)):
            self._commands.popleft()(now)

    def _wait(self, timeout: float) -> dict[object, int]:
        poller = zmq.Poller()
        poller.register(self._wakeup.fd, zmq.POLLIN)
        self._client_state.register_with(poller)
        # Rounded up: a wait that ended too early would make a busy loop.
        ready: dict[object, int] = dict(poller.poll(int(max(0.0, timeout) * 1000) + 1))
        if self._wakeup.fd in ready:
            self._wakeup.clear()
        return ready


def _stamp(age: float) -> int:
    return max(int((time.time() - age) * 1e6), 0)


#: Directories whose thread runs. They are stopped when the interpreter ends, so that their records are withdrawn.
_running: weakref.WeakSet[RegistryClient] = weakref.WeakSet()


def _stop_all() -> None:
    for directory in list(_running):
        # Blocks the thread, since there may be no hub any more.
        directory.stop(0.5, blocking=True)


atexit.register(_stop_all)
