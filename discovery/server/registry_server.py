"""A registry: a ROUTER socket in a thread of its own around a table of leases.

It sends subscribers each change at once, and a heartbeat each second.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from typing import Any

import zmq

from discovery import protocol, sockets
from discovery.accepting import CHANGED, AcceptGuard
from discovery.exceptions import DirectoryError, DirectoryProtocolError
from discovery.model import DEFAULT_TTL, Note
from discovery.native import Log, NativeEvent, NativeThread, Wakeup
from discovery.notes import NoteStore
from discovery.server import pacing
from discovery.server.pacing import Key, SubscriberConnection, TrackedSubscriber
from discovery.server.table import CHECK_INTERVAL, Change, Removed, Table, Updated

_log = Log(__name__)

#: Seconds between two heartbeats to every subscriber.
HEARTBEAT_INTERVAL = 1.0
#: Subscribers of one registry, and connections that it answers.
MAX_SUBSCRIBERS, MAX_CLIENTS = 10_000, 20_000
#: Stored notes that may have been written by one connection.
MAX_NOTES_OF_CLIENT = 2_000
#: Seconds between two checks whether clients that have not subscribed are still connected.
CHECK_CLIENTS_INTERVAL = 10.0
#: Messages handled before leases are checked again.
BATCH = 500
#: Milliseconds in which a stopping registry sends its last messages, and seconds in which clients may read earlier ones.
LINGER_MS = 300
READ_WITHIN = 0.25
#: Seconds between two warnings about frames that are not messages.
WARN_INTERVAL = 60.0
#: Seconds between two searches for expired notes.
EXPIRE_NOTES_INTERVAL = 60.0


#: Seconds by which a note may be dated ahead of the registry's clock. One dated later would win over honest notes.
NOTE_AHEAD = 60.0
#: Seconds by which a rank, in microseconds since 1970, may be ahead. A higher one could not be replaced until then.
RANK_AHEAD = 86_400.0


def _check_rank(rank: tuple[int, int]) -> None:
    most = int((time.time() + RANK_AHEAD) * 1e6)
    if max(rank) > most:
        raise DirectoryError(f"incarnation {rank[0]} and version {rank[1]}: the most is {most}, microseconds a day from now")


class RegistryServer:
    """One registry. `start` binds `bind` in a thread of its own, which calls `on_bound(error or None)`."""

    def __init__(
        self,
        bind: str,
        *,
        ttl: float = DEFAULT_TTL,
        preserve: bool = True,
        on_bound: Callable[[Exception | None], None] | None = None,
    ) -> None:
        self.bind = bind
        self.boot_id = os.urandom(8).hex()
        #: The address at which it listens, once bound; a port 0 has become a number by then.
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
        self._clients: dict[bytes, SubscriberConnection] = {}
        self._subscribers: dict[bytes, TrackedSubscriber] = {}
        self._notes = NoteStore(NOTE_AHEAD, MAX_NOTES_OF_CLIENT)
        self._warned_at = -WARN_INTERVAL
        #: When a change was last sent to subscribers.
        self._pushed_at = -READ_WITHIN

    def start(self) -> None:
        """Returns at once; see `wait_bound`."""
        self._thread.start()

    def wait_bound(self, timeout: float) -> None:
        """Returns once it listens; DirectoryError when it cannot, or did not within `timeout` seconds."""
        if not self._bound.wait(timeout):
            raise DirectoryError(f"the registry did not bind {self.bind} within {timeout:g} s")
        if self.error is not None:
            raise DirectoryError(f"cannot listen at {self.bind}: {self.error}") from self.error

    @property
    def is_serving(self) -> bool:
        """Whether it listens and its thread runs."""
        return self._bound.is_set() and self.error is None and not self._thread.join(0, blocking=True)

    def stop(self, timeout: float = 1.0, blocking: bool = False) -> bool:
        """Stops listening; clients notice at once. True when its thread ended within `timeout` seconds."""
        self._is_stopping = True
        self._wakeup.wake()
        return self._thread.is_current() or self._thread.join(timeout, blocking)

    # --- everything below runs in the registry's own thread ---

    def _run(self) -> None:
        socket: zmq.Socket[bytes] | None = None
        try:
            socket = sockets.registry_socket(self.bind)
            socket.bind(self.bind)
            self.url = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        except (zmq.ZMQError, OSError) as exc:
            self.error = exc
        self._socket = socket
        self._bound.set()
        try:
            if self._on_bound is not None:
                self._on_bound(self.error)
            if socket is not None and self.error is None:
                self._serve(socket)
        finally:
            if socket is not None:
                socket.close(LINGER_MS)
            self._wakeup.close()

    def _serve(self, socket: zmq.Socket[bytes]) -> None:
        _log.info("registry %s serves at %s", self.boot_id, self.url)
        now = time.monotonic()
        self._table = Table(now, self._ttl, self._preserve)
        tick = min(CHECK_INTERVAL, self._ttl / 10)
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(self._wakeup.fd, zmq.POLLIN)
        heartbeat_at, warming = now, True
        expire_notes_at, look_at = now, now + CHECK_CLIENTS_INTERVAL
        accepting = AcceptGuard(self.url, _log.warning)
        accepting_at: float | None = now
        wait = CHANGED
        while True:
            ready = dict(poller.poll(int(wait * 1000) + 1))
            if self._wakeup.fd in ready:
                self._wakeup.clear()
            if self._is_stopping:
                self._wait_until_read(socket)
                break
            # Messages before leases: after a pause of this process, renewals wait in the socket.
            if socket in ready:
                self._take_messages(socket)
            now = time.monotonic()
            self._push_changes(self._table.expire(now))
            if accepting_at is not None and now >= accepting_at:
                pause = accepting.check()
                accepting_at = None if pause is None else now + pause
                wait = tick if pause is None else min(tick, pause)
            if now >= heartbeat_at or warming is not self._table.is_warming(now):
                warming = self._table.is_warming(now)
                heartbeat_at = now + HEARTBEAT_INTERVAL
                self._send_heartbeats(warming)
            if now >= look_at:
                look_at = now + CHECK_CLIENTS_INTERVAL
                self._check_clients(warming)
            if now >= expire_notes_at:
                expire_notes_at = now + EXPIRE_NOTES_INTERVAL
                self._notes.expire(time.time())
        _log.info("registry %s at %s stopped", self.boot_id, self.url)

    def _wait_until_read(self, socket: zmq.Socket[bytes]) -> None:
        # ZeroMQ drops messages that a client has received and not yet read when the connection ends (clients use IMMEDIATE).
        # Without this wait the last changes would be lost to a client whose thread is late.
        self._send_heartbeats(self._table.is_warming(time.monotonic()))  # This also removes disconnected subscribers.
        while self._subscribers and (left := self._pushed_at + READ_WITHIN - time.monotonic()) > 0:
            if socket.poll(int(left * 1000) + 1):
                self._take_messages(socket)

    def _take_messages(self, socket: zmq.Socket[bytes]) -> None:
        for _ in range(BATCH):
            message = sockets.receive_message(socket, most=2)
            if message is None:
                return
            first, frames = message
            now = time.monotonic()
            try:
                if len(frames) != 2:
                    raise DirectoryProtocolError(f"a message of {len(frames) - 1} frames; one is needed")
                self._handle(frames[0], protocol.decode(frames[1]), now, len(frames[1]))
            except Exception as exc:
                # Whatever a peer sent, the registry must go on serving all others.
                self._refuse_junk(frames[0], sockets.address_of(first), exc, now)

    def _handle(self, peer: bytes, message: protocol.Message, now: float, size: int) -> None:
        handle = self._HANDLERS.get(type(message))
        if handle is None:
            raise DirectoryProtocolError(f"{type(message).__name__} is not for a registry")
        handle(self, peer, message, now, size)

    def _subscribe(self, peer: bytes, message: protocol.Subscribe, now: float, size: int) -> None:
        if peer not in self._subscribers and len(self._subscribers) >= MAX_SUBSCRIBERS:
            self._send(
                peer, protocol.Refused(0, f"this registry is full: it has {MAX_SUBSCRIBERS} subscribers")
            )
            return
        client = self._client(peer)
        if client is None or client.is_refused:
            return
        table, namespace, warming = self._table, message.namespace, self._table.is_warming(now)
        # Records are looked up when their part is made, so that a client that does not read costs only names.
        instances, places = table.instances(namespace), self._notes.places(namespace)
        held = (table.entry(instance, time.monotonic()) for instance in instances)
        noted = (self._notes.get(*place) for place in places)
        parts = protocol.snapshot_parts(
            self.boot_id, 0, warming, (entry for entry in held if entry), (note for note in noted if note)
        )
        # During the warm-up clients keep records that are not listed, so a new one must learn of earlier withdrawals.
        gone = table.tombstones(namespace) if warming else []
        self._subscribers[peer] = TrackedSubscriber(client, namespace, parts, {one.instance: one for one in gone})
        self._send_pending(peer)

    def _send_pending(self, peer: bytes) -> None:
        """Sends a subscriber its pending parts and changes, as far as flow control allows."""
        subscriber = self._subscribers.get(peer)
        if subscriber is None:
            return
        most = pacing.share(len(self._clients))
        while peer in self._subscribers and subscriber.client.unread < most:
            if subscriber.parts is not None:
                frame = next(subscriber.parts, None)
                if frame is None:
                    subscriber.parts = None
                elif self._send_frame(peer, frame) is False:
                    subscriber.parts = itertools.chain([frame], subscriber.parts)
                    return
            elif subscriber.pending:
                key = next(iter(subscriber.pending))
                gone = subscriber.pending.pop(key)
                push = self._push_of(key, gone, subscriber.namespace)
                if push is not None and not self._send_push(peer, subscriber, push, {key: gone}):
                    return
            else:
                return

    def _send_push(
        self, peer: bytes, subscriber: TrackedSubscriber, push: protocol.Push, news: dict[Key, Removed | None]
    ) -> bool:
        """Sends one change. False when there is no room: then the change waits."""
        subscriber.seq += 1
        if self._send_frame(peer, push.frame(subscriber.seq)) is not False:
            return True
        subscriber.seq -= 1
        subscriber.defer(news)
        return False

    def _push_of(self, key: Key, gone: Removed | None, namespace: str | None) -> protocol.Push | None:
        if isinstance(key, tuple):
            note = self._notes.get(*key)
            return None if note is None else self._notes_changed([note])
        if gone is not None:
            return self._drop(gone)
        entry = self._table.entry(key, time.monotonic())
        if entry is None or namespace not in (None, entry[0].namespace):
            return None
        return protocol.Push(protocol.Update(0, self.boot_id, *entry))

    def _read(self, peer: bytes, message: protocol.Read, now: float, size: int) -> None:
        client = self._clients.get(peer)
        if client is not None and client.read(message.token):
            self._send_pending(peer)

    def _register(self, peer: bytes, message: protocol.Register, now: float, size: int) -> None:
        try:
            if size > protocol.MAX_RECORD + protocol.REGISTRATION_ROOM:
                raise DirectoryError(f"a record of {size} bytes; {protocol.MAX_RECORD} are allowed")
            _check_rank(message.record.rank)
            changes = self._table.register(message.record, now, size, peer)
        except DirectoryError as exc:
            self._send(peer, protocol.Refused(message.request, str(exc)))
            return
        self._push_changes(changes)
        self._send(peer, protocol.Ack(message.request))

    def _renew(self, peer: bytes, message: protocol.Renew, now: float, size: int) -> None:
        unknown = []
        for instance, incarnation, version, *_ in message.leases:
            known, changes = self._table.renew(instance, (incarnation, version), now)
            self._push_changes(changes)
            if not known:
                unknown.append(instance)
        if unknown:
            self._send(peer, protocol.Unknown(unknown))

    def _withdraw(self, peer: bytes, message: protocol.Withdraw, now: float, size: int) -> None:
        rank = (message.incarnation, message.version)
        try:
            _check_rank(rank)
        except DirectoryError as exc:
            self._send(peer, protocol.Refused(message.request, str(exc)))
            return
        self._push_changes(self._table.withdraw(message.namespace, message.instance, rank, now))
        self._send(peer, protocol.Ack(message.request))

    def _put_notes(self, peer: bytes, message: protocol.PutNotes, now: float, size: int) -> None:
        wall = time.time()
        ahead = [note for note in message.notes if note.age(wall) < -NOTE_AHEAD]
        news = self._notes.take(message.notes, wall, peer)
        for namespace in {note.namespace for note in news}:
            told = [note for note in news if note.namespace == namespace]
            self._push_to(namespace, self._notes_changed(told), {(namespace, note.key): None for note in told})
        reasons = []
        if ahead:
            most = -min(note.age(wall) for note in ahead)
            reasons.append(f"{len(ahead)} note(s) dated up to {most:.0f} s ahead of this registry's clock; set the clocks")
        if self._notes.refused:
            reasons.append(
                f"{self._notes.refused} note(s) beyond the {self._notes.most_of_writer} that one connection may have written"
            )
        answer = protocol.Refused(message.request, ", and ".join(reasons)) if reasons else protocol.Ack(message.request)
        self._send(peer, answer)

    def _notes_changed(self, notes: list[Note]) -> protocol.Push:
        return protocol.Push(protocol.NotesChanged(0, self.boot_id, notes))

    _HANDLERS: dict[type[Any], Callable[..., None]] = {
        protocol.Subscribe: _subscribe,
        protocol.Register: _register,
        protocol.Renew: _renew,
        protocol.Withdraw: _withdraw,
        protocol.PutNotes: _put_notes,
        protocol.Read: _read,
    }

    def _push_changes(self, changes: list[Change]) -> None:
        now = time.monotonic()
        for change in changes:
            if isinstance(change, Updated):
                known = change.record
                age = self._table.age(known.instance, now)
                push = protocol.Push(protocol.Update(0, self.boot_id, known, age, change.suspect))
                self._push_to(known.namespace, push, {known.instance: None})
            else:
                self._push_to(change.namespace, self._drop(change), {change.instance: change})

    def _drop(self, gone: Removed) -> protocol.Push:
        return protocol.Push(protocol.Drop(0, self.boot_id, gone.instance, *gone.rank, gone.withdrawn))

    def _push_to(self, namespace: str, push: protocol.Push, news: dict[Key, Removed | None]) -> None:
        self._pushed_at = time.monotonic()
        most = pacing.share(len(self._clients))
        for peer, subscriber in list(self._subscribers.items()):
            if subscriber.namespace is not None and subscriber.namespace != namespace:
                continue
            if subscriber.is_behind(most):
                if not subscriber.defer(news):
                    self._refuse_client(peer, f"more than {pacing.MAX_PENDING} changes wait for you")
            else:
                self._send_push(peer, subscriber, push, news)

    def _send_heartbeats(self, warming: bool) -> None:
        push = protocol.Push(protocol.Heartbeat(0, self.boot_id, warming))
        for peer, subscriber in list(self._subscribers.items()):
            self._send_pending(peer)
            self._send_frame(peer, push.frame(subscriber.seq))

    def _check_clients(self, warming: bool) -> None:
        # Only sending shows that a connection has ended. A client that has not subscribed ignores the heartbeat.
        frame = protocol.encode(protocol.Heartbeat(0, self.boot_id, warming))
        for peer in [peer for peer in self._clients if peer not in self._subscribers]:
            self._send_frame(peer, frame)

    def _client(self, peer: bytes) -> SubscriberConnection | None:
        client = self._clients.get(peer)
        if client is None and len(self._clients) < MAX_CLIENTS:
            client = self._clients[peer] = SubscriberConnection()
        return client

    def _send(self, peer: bytes, message: protocol.Message) -> None:
        client = self._client(peer)
        if client is None or client.is_refused:
            return
        if client.unread > pacing.share(len(self._clients)) + pacing.ANSWER_ROOM:
            self._refuse_client(peer, f"you left {client.unread} bytes unread")
            return
        self._send_frame(peer, protocol.encode(message))

    def _refuse_client(self, peer: bytes, reason: str) -> None:
        """Tells a client to connect again, and sends it nothing more."""
        self._subscribers.pop(peer, None)
        self._clients[peer].is_refused = True
        self._send_frame(peer, protocol.encode(protocol.Refused(0, f"{reason}; connect again")))

    def _send_frame(self, peer: bytes, frame: bytes) -> bool:
        """Sends a frame. False when there is no room for now, or when the client has disconnected."""
        assert self._socket is not None
        sent = sockets.try_send(self._socket, [peer, frame])
        if sent is None:
            self._subscribers.pop(peer, None)
            self._clients.pop(peer, None)
        client = self._clients.get(peer)
        if sent and client is not None and client.sent(len(frame)):
            token = client.new_token()
            if sockets.try_send(self._socket, [peer, protocol.encode(protocol.Mark(token))]):
                client.marked(token)
        return bool(sent)

    def _refuse_junk(self, peer: bytes, address: str, exc: Exception, now: float) -> None:
        self.junk += 1
        try:
            self._send(peer, protocol.Refused(0, str(exc)[:500]))
        except Exception as failure:
            _log.warning("could not refuse a message from %s: %.200s", address, failure)
        if now - self._warned_at > WARN_INTERVAL:
            self._warned_at = now
            _log.warning("refused %d message(s) so far; the last from %s: %s", self.junk, address, str(exc)[:500])
