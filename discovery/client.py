"""A directory kept by registries: one native thread that talks to all of them and keeps the merged view.

Rule 1: sockets, links and the merge are touched by that thread only; others leave commands and read what it published.
Rule 2: it is a thread of the operating system also under gevent, so that leases live on while a hub is busy.
"""

from __future__ import annotations

import atexit
import logging
import os
import random
import time
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path

import zmq

from discovery import protocol, sockets
from discovery.announcements import Announcements
from discovery.backend import Callback
from discovery.cache import DiskCache
from discovery.exceptions import DirectoryError
from discovery.link import SUBSCRIBING, UP, WAITING, Link
from discovery.merge import Entry, Merge
from discovery.model import Record, Seen, View
from discovery.native import NativeEvent, NativeThread, Wakeup, native_lock
from discovery.published import Published, RegistryStatus
from discovery.seeds import Seed

_log = logging.getLogger(__name__)

#: The name under which our own records are merged: they are known also while no registry is.
OWN = ""
#: Seconds between two looks when nothing happens.
IDLE = 1.0
#: Seconds between two looks while a flush, a grace or a stop waits.
EAGER = 0.05
#: Seconds between two writes of the cache.
SAVE_EVERY = 1.0
#: Seconds that a first attempt counts as reachable, for `flush`.
HOPE = 1.0
#: Seconds that a stop waits for the thread beyond what it was given for withdrawing.
FAREWELL = 1.0


class _Site:
    """One seed and the links to the addresses that it stands for."""

    def __init__(self, seed: Seed) -> None:
        self.seed = seed
        self.links: dict[str, Link] = {}
        self.is_preparing = False
        self.retry_at = float("-inf")
        self.failures = 0
        self.error: str | None = None

    def due_at(self) -> float:
        """When its next attempt is to be made; infinity while none is needed."""
        if self.is_preparing:
            return float("inf")
        if not self.links:
            return self.retry_at
        waiting = [link.retry_at for link in self.links.values() if link.state == WAITING]
        return max(self.retry_at, min(waiting)) if waiting else float("inf")


class _Flush:
    __slots__ = ("done", "good_enough", "target")

    def __init__(self, target: int) -> None:
        self.target = target
        self.done = NativeEvent()
        self.good_enough = False


class RegistryClient:
    """The `Directory` over `local:` and `tcp:` URLs."""

    def __init__(
        self, name: str, seeds: list[Seed], namespace: str | None, cache_dir: Path | None, ttl: float
    ) -> None:
        self.name = name
        self.namespace = namespace
        self._pid = os.getpid()
        self._longest_pause = ttl / 3
        self._sites = [_Site(seed) for seed in seeds]
        self._cache = None if cache_dir is None else DiskCache(cache_dir, name, namespace)
        self._lock = native_lock()
        self._commands: deque[Callable[[float], None]] = deque()
        self._wakeup = Wakeup()
        self._thread: NativeThread | None = None
        self._is_stopped = False
        self._ready = NativeEvent()
        self._announced = Announcements()
        self._callbacks: dict[object, Callback] = {}
        self._new_callbacks: set[object] = set()
        self._flushes: list[_Flush] = []
        self._merge = Merge()
        self._merge.snapshot(OWN, [], warming=True)
        self._published = Published.nothing(time.monotonic())
        self._renew_at = float("inf")
        self._save_at = float("inf")
        self._saved_at = float("-inf")
        self._stop_at: float | None = None
        self._has_changed = False

    # --- for everybody, from any thread or greenlet ---

    def start(self) -> None:
        """Begins to look for the registries. A second call does nothing; DirectoryError after `stop`."""
        sockets.check_process(self._pid)
        with self._lock:
            if self._is_stopped:
                raise DirectoryError(f"directory {self.name} is stopped; open another one")
            if self._thread is not None:
                return
            self._thread = NativeThread(self._run, "discovery-directory")
        self._published = Published.nothing(time.monotonic())
        _running.add(self)
        self._thread.start()

    def stop(self, timeout: float = 1.0, blocking: bool = False) -> None:
        """Withdraws what was announced, as far as a registry answers within `timeout` seconds, and ends the threads."""
        if os.getpid() != self._pid:
            return  # a child's copy: the threads are its parent's
        with self._lock:
            was_stopped, self._is_stopped = self._is_stopped, True
            thread = self._thread
        if thread is None:
            self._wakeup.close()
            return
        if not was_stopped:
            self._command(lambda now: self._begin_to_stop(now, timeout))
        if not thread.is_current():
            thread.join(timeout + FAREWELL, blocking)
            _running.discard(self)

    def __enter__(self) -> RegistryClient:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def announce(self, record: Record) -> None:
        """Adds an own record or replaces it by one of higher version, and keeps it leased until `withdraw`."""
        sockets.check_process(self._pid)
        if self.namespace is not None and record.namespace != self.namespace:
            raise DirectoryError(
                f"the record of {record.service!r} is of namespace {record.namespace!r}; "
                f"this directory was opened for {self.namespace!r}"
            )
        packed = protocol.pack(record.to_dict())
        if len(packed) > protocol.MAX_RECORD:
            raise DirectoryError(
                f"the record of {record.service!r} takes {len(packed)} bytes; {protocol.MAX_RECORD} are allowed, "
                "so shorten what it says of its methods"
            )
        # What travels is what everybody will see, ourselves too: tuples are lists from here on.
        record = Record.from_dict(protocol.unpack(packed))
        with self._lock:
            if self._announced.announce(record):
                self._commands.append(lambda now: self._announce(record, now))
        self._wakeup.wake()

    def withdraw(self, instance: str) -> None:
        """Takes an own record back; everybody is told at once."""
        sockets.check_process(self._pid)
        with self._lock:
            record = self._announced.withdraw(instance)
            if record is not None:
                self._commands.append(lambda now: self._withdraw(record, now))
        self._wakeup.wake()

    def flush(self, timeout: float) -> bool:
        """True once every change made so far is acknowledged by every reachable registry, and by one at least."""
        sockets.check_process(self._pid)
        with self._lock:
            flush = _Flush(self._announced.changes)
        self._command(lambda now: self._flushes.append(flush))
        return flush.done.wait(timeout) or flush.good_enough

    def view(self) -> View:
        """All that is known now."""
        return self._published.view(time.monotonic())

    def service(self, name: str) -> list[Seen]:
        """The known instances of a service."""
        return self._published.service(name, time.monotonic())

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Calls `callback(view)` soon, and again after each change, from the directory's own thread."""
        sockets.check_process(self._pid)
        token = object()

        def begin(now: float) -> None:
            self._callbacks[token] = callback
            self._new_callbacks.add(token)

        def end(now: float) -> None:
            self._callbacks.pop(token, None)
            self._new_callbacks.discard(token)

        self._command(begin)
        return lambda: self._command(end)

    def wait_ready(self, timeout: float) -> bool:
        """True once some registry has told all that it holds."""
        sockets.check_process(self._pid)
        return self._ready.wait(timeout)

    def describe(self) -> str:
        """Such as "directory tcp://10.0.0.5:4190 has been stale for 12 s"."""
        return f"directory {self.name}{self._published.describe(time.monotonic())}"

    def _command(self, command: Callable[[float], None]) -> None:
        with self._lock:
            self._commands.append(command)
        self._wakeup.wake()

    # --- everything below runs in the directory's own thread ---

    def _run(self) -> None:
        try:
            self._remember(time.monotonic())
            while not self._is_over():
                now = time.monotonic()
                self._do_commands(now)
                self._do_what_is_due(now)
                self._publish(now)
                self._wait(now)
        finally:
            self._leave()

    def _is_over(self) -> bool:
        if self._stop_at is None:
            return False
        up = [link for link in self._links() if link.state in (UP, SUBSCRIBING)]
        return not up or time.monotonic() >= self._stop_at or self._announced.is_acknowledged(up)

    def _leave(self) -> None:
        now = time.monotonic()
        left = max(0.2, (self._stop_at or now) - now)
        for link in self._links():
            link.close(now, "the directory stopped")
        self._save(now)
        for site in self._sites:
            site.seed.close(left)
        with self._lock:
            self._is_stopped = True
        self._wakeup.close()
        _running.discard(self)

    def _links(self) -> list[Link]:
        return [link for site in self._sites for link in site.links.values()]

    def _wait(self, now: float) -> None:
        poller = zmq.Poller()
        poller.register(self._wakeup.fd, zmq.POLLIN)
        links = self._links()
        for link in links:
            link.register_with(poller)
        times = [now + IDLE, self._renew_at, self._save_at, *(site.due_at() for site in self._sites)]
        times += [link.next_deadline() for link in links if link.state != WAITING]
        if self._flushes or self._merge.is_waiting or self._stop_at is not None:
            times.append(now + EAGER)
        ready = dict(poller.poll(int(max(0.0, min(times) - now) * 1000) + 1))
        if self._wakeup.fd in ready:
            self._wakeup.clear()
        now = time.monotonic()
        for link in links:
            link.handle(ready, now)
        # After the messages: a pause of this whole process is not a registry's silence.
        for link in links:
            link.check(now)

    def _do_commands(self, now: float) -> None:
        for _ in range(len(self._commands)):
            command = self._commands.popleft()
            command(now)

    def _do_what_is_due(self, now: float) -> None:
        for site in self._sites:
            if self._stop_at is None and now >= site.due_at():
                site.is_preparing = True
                site.seed.prepare(self._prepared_later(site))
        if now >= self._renew_at:
            self._renew(now)
        if now >= self._save_at:
            self._save(now)
        self._answer_flushes(now)

    # --- registries come and go ---

    def _prepared_later(self, site: _Site) -> Callable[[list[str], str | None], None]:
        return lambda addresses, error: self._command(lambda now: self._prepared(site, addresses, error, now))

    def _prepared(self, site: _Site, addresses: list[str], error: str | None, now: float) -> None:
        site.is_preparing = False
        if self._stop_at is not None:
            return
        if error is not None:
            if site.error is None:
                _log.warning("cannot reach registry %s: %s", site.seed.url, error)
            site.failures += 1
            site.error = error
            pause = min(self._longest_pause, 0.2 * 2 ** min(site.failures, 10))
            site.retry_at = now + random.uniform(0.25, 1.0) * pause
            return
        site.error, site.failures, site.retry_at = None, 0, float("-inf")
        for address in [address for address in site.links if address not in addresses]:
            if site.links[address].state == WAITING:
                del site.links[address]
                self._forget(address)
        for address in addresses:
            if address not in site.links:
                site.links[address] = Link(address, self.namespace, self, self._longest_pause)
            link = site.links[address]
            if link.state == WAITING and now >= link.retry_at:
                link.open(now)

    def _forget(self, address: str) -> None:
        if all(link.address != address for link in self._links()):
            self._merge.forget(address)

    def link_up(self, link: Link, snapshot: list[protocol.Snapshot], now: float) -> None:
        """See `link.Listener`."""
        entries = [
            Entry(record, now - age, suspect) for part in snapshot for record, age, suspect in part.entries
        ]
        self._merge.snapshot(link.address, entries, link.is_warming)
        self._announced.forget_acknowledgements(link)
        for message in self._announced.all_messages(link, now):
            link.send(message)
        _log.info("registry %s (boot %s) lists %d records", link.address, link.boot_id, len(entries))
        self._publish(now)
        self._ready.set()

    def link_message(self, link: Link, message: protocol.Message, now: float) -> None:
        """See `link.Listener`."""
        if isinstance(message, protocol.Update):
            self._merge.update(link.address, Entry(message.record, now - message.age, message.suspect))
        elif isinstance(message, protocol.Drop):
            rank = (message.incarnation, message.version)
            self._merge.drop(link.address, message.instance, rank, message.withdrawn)
        elif isinstance(message, protocol.Hugz):
            self._merge.warmed(link.address, message.warming)
        elif isinstance(message, protocol.Ack):
            self._announced.acknowledged(link, message.request)
        elif isinstance(message, protocol.Refused):
            _log.warning("registry %s refused a record: %s", link.address, message.reason)
        elif isinstance(message, protocol.Unknown):
            for again in self._announced.messages_for(link, message.instances):
                link.send(again)

    def link_down(self, link: Link, now: float) -> None:
        """See `link.Listener`."""
        self._merge.lost(link.address, now)
        self._announced.forget_acknowledgements(link)
        if link.failures == 0:
            _log.info("lost registry %s: %s", link.address, link.error)

    # --- our own records ---

    def _announce(self, record: Record, now: float) -> None:
        self._merge.update(OWN, Entry(record, now))
        for link in self._links():
            for message in self._announced.messages_for(link, [record.instance]):
                link.send(message)
        self._renew_at = min(self._renew_at, self._next_renewal(now))

    def _withdraw(self, record: Record, now: float) -> None:
        self._merge.drop(OWN, record.instance, record.rank, withdrawn=True)
        for link in self._links():
            for message in self._announced.messages_for(link, [record.instance]):
                link.send(message)

    def _renew(self, now: float) -> None:
        for message in self._announced.renewals():
            for link in self._links():
                link.send(message)
        self._renew_at = self._next_renewal(now)

    def _next_renewal(self, now: float) -> float:
        # Every third of the shortest ttl, with jitter: two renewals may be lost before a lease is.
        return now + self._announced.shortest_ttl() / 3 * random.uniform(0.8, 1.2)

    def _begin_to_stop(self, now: float, timeout: float) -> None:
        self._stop_at = now + timeout
        with self._lock:
            records = self._announced.withdraw_all()
        for record in records:
            self._withdraw(record, now)

    def _answer_flushes(self, now: float) -> None:
        if not self._flushes:
            return
        links = self._links()
        up = [link for link in links if link.state == UP]
        hoped = any(link.state not in (UP, WAITING) and now - link.opened_at < HOPE for link in links)
        hoped = hoped or any(site.is_preparing and not site.links for site in self._sites)
        for flush in list(self._flushes):
            flush.good_enough = bool(up) and self._announced.is_acknowledged(up, flush.target)
            if flush.good_enough and not hoped:
                flush.done.set()
                self._flushes.remove(flush)

    # --- what others see ---

    def _publish(self, now: float) -> None:
        if self._merge.settle(now):
            self._has_changed = True
        statuses = tuple(self._statuses())
        before = self._published
        if self._has_changed or statuses != before.statuses:
            contact = {link.address: link for link in self._links()}
            self._published = before.next(
                now, dict(self._merge.known), statuses, self._merge.is_fresh, contact
            )
        if self._has_changed or self._published.is_fresh is not before.is_fresh:
            self._has_changed = False
            self._save_at = min(self._save_at, max(now, self._saved_at + SAVE_EVERY))
            self._new_callbacks.update(self._callbacks)
        if self._new_callbacks:
            self._call_back(now)

    def _call_back(self, now: float) -> None:
        tokens, self._new_callbacks = self._new_callbacks, set()
        view = self._published.view(now)
        for token in tokens:
            callback = self._callbacks.get(token)
            if callback is None:
                continue
            try:
                callback(view)
            except Exception:
                _log.exception("a subscriber of directory %s failed", self.name)

    def _statuses(self) -> list[RegistryStatus]:
        statuses = []
        for site in self._sites:
            if not site.links:
                statuses.append(RegistryStatus(site.seed.url, None, WAITING, None, False, site.error))
            for link in site.links.values():
                statuses.append(
                    RegistryStatus(
                        site.seed.url, link.address, link.state, link.boot_id, link.is_warming, link.error
                    )
                )
        return statuses

    # --- the last good view on disk ---

    def _remember(self, now: float) -> None:
        if self._cache is not None:
            self._merge.remember(Entry(record, now - age) for record, age in self._cache.load())

    def _save(self, now: float) -> None:
        self._save_at = float("inf")
        # Only what a registry vouches for is good: a view that nobody confirmed must not replace one that was.
        if self._cache is not None and self._merge.is_fresh:
            self._saved_at = now
            known = self._merge.known.values()
            self._cache.save((item.record, max(0.0, now - item.heard_at)) for item in known)


#: Directories whose thread runs: stopped at the interpreter's end, so that what they announced is withdrawn.
_running: weakref.WeakSet[RegistryClient] = weakref.WeakSet()


def _stop_all() -> None:
    for directory in list(_running):
        # Blocking: a hub may be gone by now.
        directory.stop(0.5, blocking=True)


atexit.register(_stop_all)
