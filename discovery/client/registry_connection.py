"""The connection of a client to one registry, and the state of the conversation over it.

Used on the directory's own thread only. It opens and closes sockets and reads messages; a `DirectoryListener` decides what
they mean for the view.
"""

from __future__ import annotations

from typing import Any

import zmq

from discovery import protocol, sockets
from discovery.client.connection import CONNECTING, SUBSCRIBING, UP, WAITING, DirectoryConnection, DirectoryListener
from discovery.exceptions import DirectoryOverloadError, DirectoryProtocolError
from discovery.model import quoted
from discovery.native import Log

_log = Log(__name__)

#: Seconds that a connection and the first answer over it may take.
ATTEMPT = 3.0
#: Seconds of silence after which the connection to a registry is closed; its heartbeats come each second.
SILENCE = 3.5
#: Messages taken from one registry before the others get their turn.
BATCH = 1000
#: Seconds between two warnings about messages of one registry.
WARN_INTERVAL = 60.0
#: Seconds without a new attempt after a registry sent more than any registry may hold.
OVERLOAD_PAUSE = 60.0
#: Warnings about skipped records and notes, for each registry.
MAX_SKIP_WARNINGS = 10


class RegistryConnection(DirectoryConnection):
    """One registry address. `state` is one of waiting, connecting, subscribing, up."""

    def __init__(
        self, address: str, namespace: str | None, listener: DirectoryListener, longest_pause: float, hint: str = ""
    ) -> None:
        super().__init__(address, listener, longest_pause)
        self._namespace = namespace
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._deadline = 0.0
        self._seq = 0
        self._parts: list[protocol.Snapshot] = []
        #: Bytes of each record as it was received (an equal share of its snapshot part), and of all records.
        self._sizes: dict[str, int] = {}
        self._held = 0
        self._warned_at = float("-inf")
        self._skipped: set[str] = set()
        #: The confirmation of the last mark, if it could not be sent yet.
        self._unsent_read: protocol.Read | None = None
        self._is_connected = False
        #: Advice for the error text when something that is not a registry listens at the address.
        self._hint = hint

    def open(self, now: float) -> None:
        """Begins an attempt to connect. To be called once `retry_at` has come."""
        try:
            self._socket = sockets.client_socket()
            self._monitor = sockets.monitor_of(self._socket)
            self._socket.connect(self.address)
        except zmq.ZMQError as exc:
            self.close(now, f"cannot connect: {exc}")
            return
        self.state = CONNECTING
        self._is_connected = False
        self.opened_at = now
        self._deadline = now + ATTEMPT

    def _close(self) -> None:
        if self._socket is not None:
            sockets.close_monitored(self._socket, self._monitor)
        self._socket = self._monitor = None
        self._parts, self._sizes, self._held, self._unsent_read = [], {}, 0, None

    def register_with(self, poller: zmq.Poller) -> None:
        """Registers the sockets that the thread waits for."""
        if self._socket is not None and self._monitor is not None:
            poller.register(self._socket, zmq.POLLOUT if self.state == CONNECTING else zmq.POLLIN)
            poller.register(self._monitor, zmq.POLLIN)

    def next_deadline(self) -> float:
        """The time at which `check` or `open` is next needed."""
        return self.retry_at if self.state == WAITING else self._deadline

    def send(self, message: protocol.Message) -> bool:
        """True when the connection took it."""
        if self._socket is None or self.state not in (SUBSCRIBING, UP):
            return False
        return bool(sockets.try_send(self._socket, [protocol.encode(message)]))

    def handle(self, ready: dict[Any, int], now: float) -> None:
        """Reads messages and events from the sockets that are ready."""
        socket, monitor = self._socket, self._monitor
        if self.state == CONNECTING and socket in ready:
            self.state = SUBSCRIBING
            self._subscribe(now)
        elif socket in ready:
            self._take_messages(now)
        # Messages first: those that a registry sent before its connection ended still count.
        while monitor is not None and monitor is self._monitor and monitor in ready:
            event = sockets.monitored_event(monitor)
            if event is None:
                break
            if event == zmq.EVENT_CONNECTED:
                self._is_connected = True
                continue
            if self.state == UP:
                self._take_messages(now)
            if self._socket is not None:
                self._ended(event, now)

    def _ended(self, event: int, now: float) -> None:
        if self.state != CONNECTING:
            self.close(now, "it closed the connection")
        elif self._is_connected or sockets.is_handshake_failure(event):
            self._foreign(now)
        else:
            self.close(now, "nothing listens there")

    def _foreign(self, now: float) -> None:
        """The connection was accepted, but by something that is not a registry, or by a registry that is frozen."""
        error = "what listens there does not answer as a registry does"
        if self._hint:
            error = f"{error}; {self._hint}"
            if now - self._warned_at > WARN_INTERVAL:
                self._warned_at = now
                _log.warning("no registry at %s: %s", self.address, error)
        self.close(now, error)

    def check(self, now: float) -> None:
        """Closes a connection or ends an attempt that took too long."""
        if self._unsent_read is not None and self.send(self._unsent_read):
            self._unsent_read = None
        if self.state == WAITING or now < self._deadline:
            return
        if self.state == UP:
            self.close(now, f"it was silent for {SILENCE:g} s")
        elif self.state == SUBSCRIBING or self._is_connected:
            self._foreign(now)
        else:
            self.close(now, f"no connection within {ATTEMPT:g} s")

    def _subscribe(self, now: float) -> None:
        self._parts = []
        self._deadline = now + ATTEMPT
        self.send(protocol.Subscribe(self._namespace))

    def _take_messages(self, now: float) -> None:
        for _ in range(BATCH):
            if self._socket is None:
                return
            frames = sockets.receive_frames(self._socket, most=1)
            if frames is None:
                return
            try:
                if len(frames) != 1:
                    raise DirectoryProtocolError(f"a message of {len(frames)} frames")
                self._take(protocol.decode_push(frames[0], self._skip), len(frames[0]), now)
            except DirectoryOverloadError as exc:
                _log.warning("left registry %s alone for %g s: %s", self.address, OVERLOAD_PAUSE, exc)
                self.close(now, f"it sent too much: {exc}", OVERLOAD_PAUSE)
            except Exception as exc:
                # An invalid message must end this connection only, never the thread that serves all of them.
                self._reject(exc, now)

    def _reject(self, exc: Exception, now: float) -> None:
        if now - self._warned_at > WARN_INTERVAL:
            self._warned_at = now
            _log.warning("left registry %s, which sent no message of the protocol: %.300s", self.address, exc)
        self.close(now, f"it sent what is no message of the protocol: {exc!s:.300}")

    def _skip(self, reason: str) -> None:
        # One unusable record, perhaps of a newer release, must not hide the others. It comes again with each snapshot.
        reason = reason[:300]
        if reason not in self._skipped and len(self._skipped) < MAX_SKIP_WARNINGS:
            self._skipped.add(reason)
            _log.warning("skipped a record or note of registry %s: %s", self.address, reason)

    def _take(self, message: protocol.Message | protocol.SkippedUpdate, size: int, now: float) -> None:
        self.last_contact = now
        if isinstance(message, protocol.Mark):
            answer = protocol.Read(message.token)
            self._unsent_read = None if self.send(answer) else answer
        elif isinstance(message, protocol.Snapshot):
            self._take_snapshot(message, size, now)
        elif isinstance(message, protocol.Refused) and message.request == 0:
            self.close(now, f"it refused: {quoted(message.reason, 200)}")
        elif self.state == UP or isinstance(message, protocol.Ack | protocol.Refused | protocol.Unknown):
            self._take_push(message, size, now)

    def _take_snapshot(self, message: protocol.Snapshot, size: int, now: float) -> None:
        if message.part != len(self._parts):
            self._parts = []
            return
        if message.part == 0:
            self._sizes, self._held = {}, 0
        self._parts.append(message)
        self._held += size
        self._sizes.update((entry[0].instance, size // len(message.entries)) for entry in message.entries)
        items = max(sum(len(part.entries) for part in self._parts), sum(len(part.notes) for part in self._parts))
        self._check_bounds(max(message.parts, len(self._parts)), items)
        self._deadline = now + ATTEMPT
        if message.parts != len(self._parts):
            return
        parts, self._parts = self._parts, []
        self.state = UP
        self.error = None
        self.failures = 0
        self.boot_id, self._seq, self.is_warming = message.boot_id, message.seq, message.warming
        self._deadline = now + SILENCE
        self._listener.on_up(self, parts, now)

    def _check_bounds(self, parts: int, items: int) -> None:
        if parts > protocol.MAX_PARTS or items > protocol.MAX_ENTRIES or self._held > protocol.MAX_HELD:
            raise DirectoryOverloadError(
                f"{parts} parts, {items} records or notes, {self._held} bytes; the most are {protocol.MAX_PARTS}, "
                f"{protocol.MAX_ENTRIES} and {protocol.MAX_HELD}"
            )

    def _count(self, message: protocol.Update | protocol.Drop, size: int) -> None:
        if isinstance(message, protocol.Drop):
            self._held -= self._sizes.pop(message.instance, 0)
            return
        instance = message.record.instance
        self._held += size - self._sizes.get(instance, 0)
        self._sizes[instance] = size
        self._check_bounds(0, len(self._sizes))

    def _take_push(self, message: protocol.Message | protocol.SkippedUpdate, size: int, now: float) -> None:
        self._deadline = now + SILENCE
        if isinstance(
            message, protocol.Update | protocol.Drop | protocol.Heartbeat | protocol.NotesChanged | protocol.SkippedUpdate
        ):
            step = 0 if isinstance(message, protocol.Heartbeat) else 1
            if message.boot_id != self.boot_id or message.seq != self._seq + step:
                _log.info("missed updates of registry %s, asked for a new snapshot", self.address)
                self.state = SUBSCRIBING
                self._subscribe(now)
                return
            self._seq = message.seq
            if isinstance(message, protocol.Heartbeat):
                self.is_warming = message.warming
            elif isinstance(message, protocol.Update | protocol.Drop):
                self._count(message, size)
        if not isinstance(message, protocol.SkippedUpdate):
            self._listener.on_message(self, message, now)
