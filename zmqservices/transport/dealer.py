"""The connecting end of a link to one remote node: a DEALER socket and its monitor."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import zmq
from zmq.backend import Socket as BackendSocket

from zmqservices.process.allocator import note_large_message
from zmqservices.transport import uncopied
from zmqservices.transport.monitor import (
    CONNECT_FAILED,
    DISCONNECTED,
    HANDSHAKE_FAILED,
    HANDSHAKE_FAILED_AUTH,
    HANDSHAKE_FAILED_PROTOCOL,
    HANDSHAKE_SUCCEEDED,
    Monitor,
)
from zmqservices.transport.reactor import DRAIN_QUOTA, Reactor, ReactorTimer
from zmqservices.transport.sockets import Sockets, UnusableEndpoint, connect, refuse_unless_connectable

# pyzmq's backend methods. Its Python methods around them take as much time again per message (measured in bench/).
_recv = BackendSocket.recv
_send = BackendSocket.send
_NOBLOCK = int(zmq.NOBLOCK)
_MORE = int(zmq.NOBLOCK) | int(zmq.SNDMORE)
_EVENTS = zmq.EVENTS
_POLLIN = int(zmq.POLLIN)

#: Seconds from a failed handshake to the next attempt.
REDIAL_PAUSE = 3.0


class DealerListener(Protocol):
    """Receives what happens on a link. All methods run inside the reactor."""

    def on_connect(self) -> None:
        """The link is connected, or connected again. Nothing was sent on it yet."""

    def unreachable(self, why: str = "") -> None:
        """An attempt to connect failed; another one follows. `why`: the reason, if the handshake failed; otherwise ""."""

    def on_disconnect(self) -> None:
        """The connection ended, and all messages in flight are lost. ZeroMQ goes on trying to connect."""

    def on_message(self, body: bytes) -> bool:
        """The body of a message arrived. Fetch its payload, if it announces one, with `DealerLink.take_payload`.

        Returns True if handling it was so much work that other sockets should have a turn before the next message.
        """

    def on_batch_end(self) -> None:
        """Called after the messages that had arrived. More may follow at once."""


class DealerLink:
    """A link to one endpoint (`tcp://IP:port`). It reconnects by itself until it is closed.

    `server_key`: the public key of that node if connections are encrypted. Raises UnusableEndpoint, and leaves nothing open, if
    no link to the endpoint can be made.
    """

    def __init__(
        self,
        reactor: Reactor,
        sockets: Sockets,
        endpoint: str,
        listener: DealerListener,
        server_key: bytes | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._reactor = reactor
        self._is_encrypted = server_key is not None
        #: The timer of the next attempt; set after a failed handshake.
        self._redial: ReactorTimer | None = None
        self._listener = listener
        self._closed = False
        #: Whether this turn has another receive to come. It will find messages whose arrival a send may have hidden.
        self._is_draining = False
        #: Whether the last turn had a single message. The next turn probably has only one as well.
        self._comes_alone = False
        self._may_stop_early = reactor.looks_before_it_waits
        refuse_unless_connectable(endpoint)
        opened: list[Any] = []
        try:
            self.socket = sockets.dealer(server_key)
            opened.append(partial(self.socket.close, linger=0))
            self._monitor = Monitor(
                reactor, sockets, self.socket, HANDSHAKE_SUCCEEDED | DISCONNECTED | HANDSHAKE_FAILED | CONNECT_FAILED, self._tell
            )
            opened.append(self._monitor.close)
            self._get: Any = self.socket.get
            self._watch = reactor.watch(self)
            opened.append(self._watch.close)
            self._arm = self._watch.arm
            connect(self.socket, endpoint)
        except zmq.ZMQError as exc:
            self._closed = True
            for close in reversed(opened):
                close()
            raise UnusableEndpoint(f"no link to {endpoint[:100]!r} can be made: {exc}") from exc

    @property
    def is_closed(self) -> bool:
        return self._closed

    def _tell(self, event: int, value: int) -> None:
        if self._closed:
            return
        if event == HANDSHAKE_SUCCEEDED:
            self._cancel_redial()
            self._listener.on_connect()
        elif event == CONNECT_FAILED:
            self._listener.unreachable()
        elif event & HANDSHAKE_FAILED:
            why = self._why(event)
            self._listener.unreachable(why)
            if why and self._redial is None:
                self._redial = self._reactor.call_later(REDIAL_PAUSE, self._dial_again)
        elif event == DISCONNECTED:
            # Messages that the peer sent before it left are still queued. Handle them before calls are given up.
            while not self._closed and self.drain():
                pass
            if not self._closed:
                self._listener.on_disconnect()

    def _why(self, event: int) -> str:
        if event == HANDSHAKE_FAILED_AUTH:
            return "it refuses this process's key"
        if event == HANDSHAKE_FAILED_PROTOCOL:
            return "it does not encrypt its connections" if self._is_encrypted else "it is no node, or one with SECURITY"
        if self._is_encrypted:
            return "the handshake failed: its key is another than the directory lists, or it ended in that moment"
        return ""

    def _dial_again(self) -> None:
        # Needed because ZeroMQ does not try again after some failures of a handshake.
        self._redial = None
        if self._closed:
            return
        with suppress(zmq.ZMQError):
            self.socket.disconnect(self.endpoint)
        with suppress(zmq.ZMQError):
            connect(self.socket, self.endpoint)

    def _cancel_redial(self) -> None:
        if self._redial is not None:
            self._redial.cancel()
            self._redial = None

    def send(self, frames: bytes | tuple[bytes, bytes]) -> bool:
        """Hand a message to ZeroMQ. Returns False if the link is not connected or its queue is full."""
        try:
            if isinstance(frames, bytes):
                _send(self.socket, frames, _NOBLOCK)
            else:
                _send(self.socket, frames[0], _MORE)
                _send(self.socket, uncopied.frame(frames[1]), _NOBLOCK)
                note_large_message()
        except zmq.Again:
            if not self._is_draining:
                self._arm()
            return False
        if not self._is_draining:
            self._arm()
        return True

    def take_payload(self) -> bytes | None:
        """The frame that follows the last received body; None if there is none."""
        if not self.socket.get(zmq.RCVMORE):
            return None
        payload: bytes = self.socket.recv(_NOBLOCK)
        note_large_message()
        return payload

    def expect_more(self) -> None:
        """Several messages may wait: the next turn reads them as a batch."""
        self._comes_alone = False

    # Almost the same as the drain of RouterSocket. They are kept apart because a shared loop would cost a call per message.
    def drain(self) -> bool:
        socket, listener = self.socket, self._listener
        on_message = listener.on_message
        count = unheard = 0
        more = self._is_draining = True
        try:
            for _ in range(DRAIN_QUOTA):
                if self._closed:
                    return False
                body = _recv(socket, _NOBLOCK)
                count += 1
                unheard = 1
                if on_message(body):
                    break
                if self._comes_alone:
                    # Handle this message before asking for the next one, so that its answer leaves sooner.
                    self._comes_alone = False
                    unheard = 0
                    listener.on_batch_end()
                    if self._may_stop_early:
                        break
                    # Ask whether a message waits, because a receive that finds none raises, which costs three times as much.
                    if self._watch.is_closed:
                        return False
                    if not self._get(_EVENTS) & _POLLIN:
                        more = False
                        break
        except zmq.Again:
            more = False
        finally:
            self._is_draining = False
            self._comes_alone = count == 1
            if unheard or not count:
                listener.on_batch_end()
        return more

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._cancel_redial()
            self._watch.close()
            self._monitor.close()
            self.socket.close(linger=0)
