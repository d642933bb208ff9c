"""A connection of a client over ZeroMQ: a DEALER, its monitor, and the time that an attempt may take.

Used on the directory's own thread only. A subclass has the messages.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import zmq

from discovery import sockets
from discovery.client.connection import CONNECTING, SUBSCRIBING, UP, WAITING, DirectoryConnection, DirectoryListener
from discovery.exceptions import SecurityError
from discovery.native import Log

_log = Log(__name__)

#: Seconds for an attempt, until the first answer.
ATTEMPT = 3.0
#: The most messages that are read from one connection before the others get their turn.
BATCH = 1000
#: Seconds between two warnings about one connection.
WARN_INTERVAL = 60.0


class SocketConnection(DirectoryConnection):
    """A connection to one address over ZeroMQ."""

    def __init__(self, address: str, listener: DirectoryListener, longest_pause: float) -> None:
        super().__init__(address, listener, longest_pause)
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._deadline = 0.0
        self._is_connected = False
        self._warned_at = float("-inf")

    @abstractmethod
    def _new_socket(self) -> zmq.Socket[bytes]:
        """An unconnected DEALER."""

    @abstractmethod
    def _begin(self, now: float) -> None:
        """The socket is connected. Sends the first message."""

    @abstractmethod
    def _take_frames(self, frames: list[bytes], now: float) -> None:
        """Handles one message. DirectoryProtocolError if it is invalid."""

    @abstractmethod
    def _foreign(self, now: float) -> None:
        """The connection was accepted, but no valid answer has come. Closes it."""

    @abstractmethod
    def _silent(self, now: float) -> None:
        """Called when the deadline of a connection that is up has passed."""

    def open(self, now: float) -> None:
        """Begins an attempt to connect. To be called once `retry_at` has come."""
        try:
            self._socket = self._new_socket()
            self._monitor = sockets.monitor_of(self._socket)
            self._socket.connect(self.address)
        except (zmq.ZMQError, SecurityError) as exc:
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

    def register_with(self, poller: zmq.Poller) -> None:
        """Registers the sockets that the thread waits for."""
        if self._socket is not None and self._monitor is not None:
            poller.register(self._socket, zmq.POLLOUT if self.state == CONNECTING else zmq.POLLIN)
            poller.register(self._monitor, zmq.POLLIN)

    def next_deadline(self) -> float:
        """The time at which `check` or `open` is next needed."""
        return self.retry_at if self.state == WAITING else self._deadline

    def handle(self, ready: dict[Any, int], now: float) -> None:
        """Reads messages and events from the sockets that are ready."""
        socket, monitor = self._socket, self._monitor
        if self.state == CONNECTING and socket in ready:
            self.state = SUBSCRIBING
            self._deadline = now + ATTEMPT
            self._begin(now)
        elif socket in ready:
            self._take_messages(now)
        # Messages come first: those that were sent before the connection ended still count.
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
            self.close(now, "nothing listens there; is a registry running, and are the URL's host and port right?")

    def check(self, now: float) -> None:
        """Closes a connection or ends an attempt that took too long."""
        if self.state == WAITING or now < self._deadline:
            return
        if self.state == UP:
            self._silent(now)
        elif self.state == SUBSCRIBING or self._is_connected:
            self._foreign(now)
        else:
            self.close(now, f"no connection within {ATTEMPT:g} s")

    def _take_messages(self, now: float) -> None:
        for _ in range(BATCH):
            if self._socket is None:
                return
            frames = sockets.receive_frames(self._socket, most=1)
            if frames is None:
                return
            try:
                self._take_frames(frames, now)
            except Exception as exc:
                # An invalid message must end this connection only, never the thread that serves all of them.
                self._reject(exc, now)

    def _reject(self, exc: Exception, now: float) -> None:
        self._warn(now, "left %s alone, which sent no message of the protocol: %.300s", self.address, exc)
        self.close(now, f"it sent what is no message of the protocol: {exc!s:.300}")

    def _warn(self, now: float, text: str, *args: object) -> None:
        if now - self._warned_at > WARN_INTERVAL:
            self._warned_at = now
            _log.warning(text, *args)
