"""The two ends of a broadcast: a bound XPUB, which knows the topics that are subscribed to, and a SUB that listens to many XPUBs.

A broadcast is one frame that begins with its topic. A listener of a topic gets all frames that begin with it. A long bytes value
may follow in a second frame. Delivery is not guaranteed: ZeroMQ drops messages for which a queue has no room.

A separate thread owns the XPUB and relays between it and the reactor. When a connection ends, ZeroMQ walks through all topics of
all listeners in the thread that uses the socket. With a few hundred long topics that takes a second for each connection, and
anyone who can connect can cause it. In a separate thread it only delays broadcasts, and not calls or reliable events.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

import zmq
from zmq.backend import Socket as BackendSocket

from zmqservices.process.allocator import note_large_message
from zmqservices.transport.accepting import Accepting
from zmqservices.transport.broadcast_connections import BroadcastConnections
from zmqservices.transport.monitor import ACCEPTED, DISCONNECTED, Monitor
from zmqservices.transport.reactor import DRAIN_QUOTA, Reactor
from zmqservices.transport.sockets import Sockets, UnusableEndpoint, bind, connect, refuse_unless_connectable
from zmqservices.utils.native_threads import start_thread

_recv = BackendSocket.recv
_send = BackendSocket.send
_NOBLOCK = int(zmq.NOBLOCK)
_SNDMORE = int(zmq.SNDMORE)

#: Milliseconds for which broadcasts may still be sent after the context has ended.
LAST_WORDS = 1000


class BroadcastPublisherListener(Protocol):
    """Receives the subscriptions of listeners. Its method runs inside the reactor."""

    def on_subscription(self, topic: bytes, is_on: bool) -> None:
        """A listener subscribes to `topic` or unsubscribes. Called once per listener; ZeroMQ does not say which one it is."""


def _relay(inner: zmq.Socket[bytes], public: zmq.Socket[bytes], events: zmq.Socket[bytes]) -> None:
    """Relay broadcasts out and subscriptions in until the context ends. Runs in C, without the interpreter's lock."""
    try:
        zmq.proxy(inner, public)
    except zmq.ContextTerminated:
        pass
    finally:
        inner.close()
        public.close(linger=LAST_WORDS)
        # Last: ZeroMQ must not send an event that nobody can receive.
        events.close()


class BroadcastPublisher:
    """An XPUB bound to `address` (`tcp://IP:port`; port 0 for any) until the context of `sockets` ends.

    `endpoint` is its address.
    """

    def __init__(self, reactor: Reactor, sockets: Sockets, address: str, listener: BroadcastPublisherListener) -> None:
        self._listener = listener
        self._closed = False
        public = sockets.xpub()
        self.endpoint = bind(public, address, " for events")
        self._connections = BroadcastConnections(reactor, self.endpoint)
        self._monitor = Monitor(reactor, sockets, public, ACCEPTED | DISCONNECTED, self._connections.on_event)
        self._accepting = Accepting(reactor, self.endpoint)
        self.socket, inner = sockets.pair()
        start_thread(partial(_relay, inner, public, self._monitor.socket))
        self._watch = reactor.watch(self)
        self._arm = self._watch.arm

    def send(self, topic: bytes, frames: bytes | tuple[bytes, bytes]) -> bool:
        """Send to all subscribed listeners. Never blocks. A listener whose queue is full does not get the message.

        Returns False if no listener gets it, because too many broadcasts wait for the relay.
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
        """Stop sending. The address and the connections are released once the context has ended."""
        if not self._closed:
            self._closed = True
            self._accepting.close()
            self._monitor.leave()
            self._connections.close()
            self._watch.close()
            self.socket.close(linger=LAST_WORDS)


class BroadcastSubscriberListener(Protocol):
    """Receives the broadcasts. All methods run inside the reactor."""

    def on_broadcast(self, frame: bytes, payload: bytes | None) -> None:
        """A broadcast arrived: `frame` is its topic and body, `payload` the second frame, if there is one."""

    def on_batch_end(self) -> None:
        """Called after all messages that had arrived."""


class BroadcastSubscriber:
    """A SUB that listens to any number of publishers (`connect`) for any number of topics (`subscribe`)."""

    def __init__(self, reactor: Reactor, sockets: Sockets, listener: BroadcastSubscriberListener) -> None:
        self._listener = listener
        self._closed = False
        self._is_paused = False
        #: Whether further frames of this message follow. They belong to no event and are dropped.
        self._is_skipping = False
        self.socket = sockets.sub()
        self._watch = reactor.watch(self)

    def connect(self, endpoint: str) -> None:
        """Listen to another publisher; reconnects by itself. To be called once per endpoint. Raises UnusableEndpoint."""
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
            pass  # It was never connected.

    def pause(self) -> None:
        """Stop reading until `resume`. Messages stay in ZeroMQ's queues while there is room."""
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
        """Stop receiving messages of `topic`."""
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
                    # One frame per turn, so that a message of very many frames does not delay everything else.
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
