"""The two ends of a broadcast: an XPUB, bound, that knows who listens, and a SUB that listens to many of them.

A broadcast is one frame, its topic first: whoever listens for a topic gets all frames that begin with it. A long bytes
value may follow in a frame of its own. Nothing is promised: what a full pipe has no room for is dropped by ZeroMQ.

The XPUB belongs to a thread of its own, which relays between it and the reactor. When a connection ends, ZeroMQ walks through all
topics of all listeners, in the thread that uses the socket: with a few hundred long topics that takes a second for each
connection. Anybody who can connect can do that. It costs broadcasts their time, and calls and reliable events nothing.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

import zmq
from zmq.backend import Socket as BackendSocket

from zmqservices.process.allocator import note_large_message
from zmqservices.transport.accepting import Accepting
from zmqservices.transport.reactor import DRAIN_QUOTA, Reactor
from zmqservices.transport.sockets import Sockets, UnusableEndpoint, bind, connect, refuse_unless_connectable
from zmqservices.utils.native_threads import start_thread

_recv = BackendSocket.recv
_send = BackendSocket.send
_NOBLOCK = int(zmq.NOBLOCK)
_SNDMORE = int(zmq.SNDMORE)

#: Milliseconds for which broadcasts may still leave after the context has ended.
LAST_WORDS = 1000


class BroadcastPublisherListener(Protocol):
    """Receives the subscriptions of listeners. Its method runs inside the reactor."""

    def on_subscription(self, topic: bytes, is_on: bool) -> None:
        """A listener subscribes to `topic`, or unsubscribes. Called once per listener; ZeroMQ does not say which."""


def _relay(inner: zmq.Socket[bytes], public: zmq.Socket[bytes]) -> None:
    """Until the context ends: broadcasts go out, subscriptions come in. In C, without the interpreter's lock."""
    try:
        zmq.proxy(inner, public)
    except zmq.ContextTerminated:
        pass
    finally:
        inner.close()
        public.close(linger=LAST_WORDS)


class BroadcastPublisher:
    """Binds `address` (`tcp://IP:port`, port 0 for any); `endpoint` is what it got, until the context of `sockets` ends."""

    def __init__(self, reactor: Reactor, sockets: Sockets, address: str, listener: BroadcastPublisherListener) -> None:
        self._listener = listener
        self._closed = False
        public = sockets.xpub()
        self.endpoint = bind(public, address, " for events")
        self._accepting = Accepting(reactor, self.endpoint)
        self.socket, inner = sockets.pair()
        start_thread(partial(_relay, inner, public))
        self._watch = reactor.watch(self)
        self._arm = self._watch.arm

    def send(self, topic: bytes, frames: bytes | tuple[bytes, bytes]) -> bool:
        """Send to all subscribed listeners. Never blocks; a listener whose queue is full misses the message.

        False: all miss it, since too many broadcasts wait for the relay.
        """
        try:
            if isinstance(frames, tuple):
                _send(self.socket, topic + frames[0], _NOBLOCK | _SNDMORE)
                _send(self.socket, frames[1], _NOBLOCK)
                note_large_message()
            else:
                _send(self.socket, topic + frames, _NOBLOCK)
        except zmq.Again:
            return False
        finally:
            self._arm()
        return True

    def drain(self) -> bool:
        for _ in range(DRAIN_QUOTA):
            if self._closed:
                return False
            try:
                frame = _recv(self.socket, _NOBLOCK)
            except zmq.Again:
                return False
            if frame[:1] in (b"\0", b"\1"):
                self._listener.on_subscription(frame[1:], frame[:1] == b"\1")
        return True

    def close(self) -> None:
        """Send no more. The address is free, and its connections are closed, once the context has ended."""
        if not self._closed:
            self._closed = True
            self._accepting.close()
            self._watch.close()
            self.socket.close(linger=LAST_WORDS)


class BroadcastSubscriberListener(Protocol):
    """Receives the broadcasts. All methods run inside the reactor."""

    def on_broadcast(self, frame: bytes, payload: bytes | None) -> None:
        """A broadcast: its topic and body, and the frame that followed, if one did."""

    def on_batch_end(self) -> None:
        """All messages that had arrived were handed over."""


class BroadcastSubscriber:
    """Listens to any number of publishers (`connect`) for any number of topics (`subscribe`)."""

    def __init__(self, reactor: Reactor, sockets: Sockets, listener: BroadcastSubscriberListener) -> None:
        self._listener = listener
        self._closed = False
        self._is_paused = False
        #: Whether frames follow that belong to no event.
        self._is_skipping = False
        self.socket = sockets.sub()
        self._watch = reactor.watch(self)

    def connect(self, endpoint: str) -> None:
        """Listen to one more publisher; reconnects by itself. To be called once per endpoint. Raises UnusableEndpoint."""
        refuse_unless_connectable(endpoint)
        try:
            connect(self.socket, endpoint)
        except zmq.ZMQError as exc:
            raise UnusableEndpoint(f"broadcasts at {endpoint[:100]!r} cannot be heard: {exc}") from exc

    def disconnect(self, endpoint: str) -> None:
        """Stop listening to this publisher."""
        try:
            self.socket.disconnect(endpoint)
        except zmq.ZMQError:
            pass  # It could not be connected to.

    def pause(self) -> None:
        """Read nothing for now: messages stay in ZeroMQ's queues while there is room."""
        self._is_paused = True

    def resume(self) -> None:
        """Read again after `pause`."""
        if self._is_paused and not self._closed:
            self._is_paused = False
            self._watch.arm()

    def subscribe(self, topic: bytes) -> None:
        """Receive the messages that begin with `topic`, from all publishers."""
        self.socket.set(zmq.SUBSCRIBE, topic)

    def unsubscribe(self, topic: bytes) -> None:
        """Receive messages of `topic` no more."""
        self.socket.set(zmq.UNSUBSCRIBE, topic)

    def drain(self) -> bool:
        socket: Any = self.socket
        if self._is_paused:
            return False
        try:
            for _ in range(DRAIN_QUOTA):
                if self._closed:
                    return False
                frame = _recv(socket, _NOBLOCK)
                if self._is_skipping:
                    # One frame at a time, so that a message of very many frames holds nothing else up for long.
                    self._is_skipping = bool(socket.get(zmq.RCVMORE))
                    continue
                payload = None
                if socket.get(zmq.RCVMORE):
                    payload = _recv(socket, _NOBLOCK)
                    self._is_skipping = bool(socket.get(zmq.RCVMORE))
                    note_large_message()
                self._listener.on_broadcast(frame, payload)
        except zmq.Again:
            return False
        finally:
            self._listener.on_batch_end()
        return not self._is_paused

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._watch.close()
            self.socket.close(linger=0)
