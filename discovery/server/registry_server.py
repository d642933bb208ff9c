"""A registry: a thread with a ROUTER socket, around a table of leases.

It sends each change at once to the subscribers that it interests, and a heartbeat every second (see `discovery.server.feed`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import zmq

from discovery import protocol, sockets
from discovery.accepting import CHANGED, AcceptGuard
from discovery.exceptions import DirectoryConfigurationError, DirectoryError, DirectoryProtocolError
from discovery.faults import FaultyPeers, too_many
from discovery.model import DEFAULT_TTL
from discovery.native import Log, NativeEvent, NativeThread, Wakeup
from discovery.notes import NoteStore
from discovery.security import exposure
from discovery.security.keys import Keys
from discovery.server.admission import Admission
from discovery.server.connections import RegistryConnections
from discovery.server.feed import ChangeFeed
from discovery.server.limits import RegistryLimits
from discovery.server.request_guard import RequestGuard
from discovery.server.requests import NOTE_AHEAD, RequestHandlers
from discovery.server.table import CHECK_INTERVAL, Table

_log = Log(__name__)

#: Seconds between two heartbeats to every subscriber.
HEARTBEAT_INTERVAL = 1.0
#: Seconds between two checks whether clients that have not subscribed are still connected.
CHECK_CLIENTS_INTERVAL = 10.0
#: Messages that are handled before leases are checked again, and seconds for sending waiting snapshots and changes in between.
BATCH, TURNS = 500, 0.01
#: Seconds after which leases are checked even if more messages wait. Leases are extended by the time until then.
CHECK_LEASES_WITHIN = 1.0
#: Milliseconds for a stopping registry's last messages, and seconds in which its clients may read the earlier ones.
LINGER_MS = 300
READ_WITHIN = 0.25
#: Seconds between two warnings about frames that are not messages.
WARN_INTERVAL = 60.0
#: Seconds between two searches for expired notes.
EXPIRE_NOTES_INTERVAL = 60.0


class RegistryServer:
    """One registry. `start` starts its thread, which binds `bind` and then calls `on_bound(error or None)`.

    `ttl`: seconds of the warm-up, see `Table`. `preserve`: whether too many leases that run out at once are kept as suspect.
    `keys`: of a registry of a closed cluster. `insecure`: may listen at addresses other than loopback without keys.
    DirectoryConfigurationError for an address that is not loopback, without `keys` or `insecure`.
    """

    def __init__(
        self,
        bind: str,
        *,
        ttl: float = DEFAULT_TTL,
        preserve: bool = True,
        on_bound: Callable[[Exception | None], None] | None = None,
        keys: Keys | None = None,
        insecure: bool = False,
        limits: RegistryLimits | None = None,
    ) -> None:
        self._limits = limits = limits or RegistryLimits()
        host = bind.removeprefix("tcp://").rpartition(":")[0]
        objection = exposure.objection(host, "this registry", bind, keys is not None, insecure)
        if objection:
            raise DirectoryConfigurationError(objection)
        self._warning = exposure.warning(host, "this registry", bind, keys is not None)
        self._keys = keys
        #: What clients may ask for; None if all clients may ask for everything.
        self._admission = None if keys is None else Admission(keys)
        self.bind = bind
        self.boot_id = os.urandom(8).hex()
        #: The address at which it listens, once it is bound; port 0 has become a real port then.
        self.url = ""
        self.error: Exception | None = None
        self.junk = 0
        self._ttl = ttl
        self._preserve = preserve
        self._on_bound = on_bound
        self._bound = NativeEvent()
        self._is_stopping = False
        self._wakeup = Wakeup()
        self._thread = NativeThread(self._run, "discovery-registry")
        self._notes = NoteStore(
            NOTE_AHEAD, limits.max_notes_of_connection, limits.max_notes, limits.max_notes_of_namespace,
            limits.max_notes_of_signer,
        )  # fmt: skip
        self._warned_at = self._warned_of_block_at = -WARN_INTERVAL
        self._faulty = FaultyPeers(limits.max_faults_per_second)

    def start(self) -> None:
        """Returns at once; see `wait_bound`."""
        self._thread.start()

    def wait_bound(self, timeout: float) -> None:
        """Waits until it listens. DirectoryError if it cannot, or does not within `timeout` seconds."""
        if not self._bound.wait(timeout):
            raise DirectoryError(f"the registry did not bind {self.bind} within {timeout:g} s")
        if self.error is not None:
            raise DirectoryError(f"cannot listen at {self.bind}: {self.error}") from self.error

    @property
    def is_serving(self) -> bool:
        """Whether it listens and its thread runs."""
        return self._bound.is_set() and self.error is None and not self._thread.join(0, blocking=True)

    def stop(self, timeout: float = 1.0, blocking: bool = False) -> bool:
        """Stops listening; clients notice at once. Returns whether its thread ended within `timeout` seconds."""
        self._is_stopping = True
        self._wakeup.wake()
        return self._thread.is_current() or self._thread.join(timeout, blocking)

    # --- on the registry's own thread ---

    def _run(self) -> None:
        socket: zmq.Socket[bytes] | None = None
        connections: RegistryConnections | None = None
        try:
            socket = sockets.registry_socket(self.bind, self._keys, self._limits.handshakes_per_second)
            socket.bind(self.bind)
            self.url = socket.getsockopt_string(zmq.LAST_ENDPOINT)
            connections = RegistryConnections(socket, self.url, self._limits.hello_timeout, self._keys is not None)
        except (zmq.ZMQError, OSError) as exc:
            self.error = exc
        self._bound.set()
        try:
            if self._on_bound is not None:
                self._on_bound(self.error)
            if socket is not None and connections is not None and self.error is None:
                self._serve(socket, connections)
        finally:
            if connections is not None:
                connections.close()
            if socket is not None:
                socket.close(LINGER_MS)
            self._wakeup.close()

    def _serve(self, socket: zmq.Socket[bytes], connections: RegistryConnections) -> None:
        _log.info("registry %s serves at %s", self.boot_id, self.url)
        if self._warning:
            _log.warning("%s", self._warning)
        now = time.monotonic()
        limits = self._limits
        self._table = Table(
            now, self._ttl, self._preserve, limits.max_records, limits.max_records_of_connection, limits.max_record_bytes,
            limits.max_record_bytes_of_connection,
        )  # fmt: skip
        self._feed = feed = ChangeFeed(
            self.boot_id, self._table, self._notes, lambda peer, frame: sockets.try_send(socket, [peer, frame]), limits=limits,
            on_end=connections.hide,
        )  # fmt: skip
        self._connections = connections
        self._handlers = RequestHandlers(self._table, self._notes, feed, limits)
        self._guard = None
        if self._keys is not None and self._admission is not None:
            self._guard = RequestGuard(self._keys, self._admission, feed)
        tick = min(CHECK_INTERVAL, self._ttl / 10)
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(self._wakeup.fd, zmq.POLLIN)
        poller.register(connections.monitor, zmq.POLLIN)
        heartbeat_at, expired_at, warming = now, now, True
        expire_notes_at, look_at = now, now + CHECK_CLIENTS_INTERVAL
        accepting = AcceptGuard(self.url, _log.warning)
        accepting_at: float | None = now
        wait = CHANGED
        while True:
            ready = dict(poller.poll(0 if feed.has_turns else int(wait * 1000) + 1))
            if self._wakeup.fd in ready:
                self._wakeup.clear()
            if self._is_stopping:
                self._wait_until_read(socket)
                break
            # Messages come before leases: after a pause of this process, renewals wait in the socket.
            is_drained = socket not in ready or self._take_messages(socket)
            now = time.monotonic()
            if connections.monitor in ready:
                connections.read(now)
            if is_drained:
                connections.end_silent(now)
            if is_drained or now - expired_at > CHECK_LEASES_WITHIN:
                expired_at = now
                feed.push(self._table.expire(now))
            feed.take_turns(TURNS)
            if accepting_at is not None and now >= accepting_at:
                pause = accepting.check()
                accepting_at = None if pause is None else now + pause
                wait = tick if pause is None else min(tick, pause)
            if now >= heartbeat_at or warming is not self._table.is_warming(now):
                warming = self._table.is_warming(now)
                heartbeat_at = now + HEARTBEAT_INTERVAL
                feed.heartbeat(warming)
                if self._guard is not None:
                    self._guard.look()
            if now >= look_at:
                look_at = now + CHECK_CLIENTS_INTERVAL
                feed.check_clients(warming)
            if now >= expire_notes_at:
                expire_notes_at = now + EXPIRE_NOTES_INTERVAL
                self._notes.expire(time.time())
        _log.info("registry %s at %s stopped", self.boot_id, self.url)

    def _wait_until_read(self, socket: zmq.Socket[bytes]) -> None:
        # When a connection ends, ZeroMQ drops messages that the client has received and not yet read (clients use IMMEDIATE).
        # Without this wait, a client whose thread is late would lose the last changes.
        self._feed.heartbeat(self._table.is_warming(time.monotonic()))  # This also removes disconnected subscribers.
        self._feed.take_turns(TURNS)
        while self._feed.subscribers and (left := self._feed.pushed_at + READ_WITHIN - time.monotonic()) > 0:
            if socket.poll(int(left * 1000) + 1):
                self._take_messages(socket)

    def _take_messages(self, socket: zmq.Socket[bytes]) -> bool:
        """Handles waiting messages. True if none is left."""
        blocked = self._faulty.blocked(time.monotonic())
        for _ in range(BATCH):
            message = sockets.receive_message(socket, most=2, ignored=blocked)
            if message is None:
                return True
            first, frames = message
            if frames[0] in blocked:
                continue
            now = time.monotonic()
            try:
                if len(frames) != 2:
                    raise DirectoryProtocolError(f"a message of {len(frames) - 1} frames; one is needed")
                decoded = protocol.decode(frames[1])
                if self._guard is not None and not self._guard.admits(frames[0], first, decoded):
                    continue
                self._handlers.handle(frames[0], decoded, now, len(frames[1]))
                client = self._feed.clients.get(frames[0])
                if client is not None and not client.is_refused:
                    self._connections.show(frames[0], first, now)
            except Exception as exc:
                # Whatever one client sends, the registry must go on serving the others.
                self._refuse_junk(frames[0], sockets.address_of(first), exc, now)
        return False

    def _refuse_junk(self, peer: bytes, address: str, exc: Exception, now: float) -> None:
        self.junk += 1
        try:
            if self._faulty.add(peer, now):
                self._block(peer, address, now)
            else:
                self._feed.answer(peer, protocol.Refused(0, str(exc)[:500]))
        except Exception as failure:
            _log.warning("could not refuse a message from %s: %.200s", address, failure)
        if now - self._warned_at > WARN_INTERVAL:
            self._warned_at = now
            _log.warning("refused %d message(s) so far; the last from %s: %s", self.junk, address, str(exc)[:500])

    def _block(self, peer: bytes, address: str, now: float) -> None:
        most = self._limits.max_faults_per_second
        self._feed.cut_off(peer, too_many(most))
        if now - self._warned_of_block_at > WARN_INTERVAL:
            self._warned_of_block_at = now
            _log.warning("blocked a client at %s: %s", address, too_many(most, "it sends"))
