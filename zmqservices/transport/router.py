"""The bound end of links: a ROUTER socket to which any number of remote nodes connect."""

from __future__ import annotations

import enum
import logging
from typing import Any, Protocol

import zmq
from zmq.backend import Socket as BackendSocket

from discovery.security import zap
from zmqservices.process.allocator import note_large_message
from zmqservices.transport import addresses, uncopied
from zmqservices.transport.accepting import Accepting
from zmqservices.transport.faults import Faults
from zmqservices.transport.monitor import ACCEPTED, DISCONNECTED, HANDSHAKE_FAILED, Monitor
from zmqservices.transport.reactor import DRAIN_QUOTA, Reactor
from zmqservices.transport.silent_connections import SilentConnections
from zmqservices.transport.sockets import ROUTING_ID_LENGTH, ROUTING_ID_PREFIX, Sockets, bind, bind_also

_log = logging.getLogger(__name__)

_recv = BackendSocket.recv
_send = BackendSocket.send
_NOBLOCK = int(zmq.NOBLOCK)
_MORE = int(zmq.NOBLOCK) | int(zmq.SNDMORE)
_EVENTS = zmq.EVENTS
_POLLIN = int(zmq.POLLIN)

#: Seconds for which replies may still be sent after the socket is closed.
LAST_WORDS = 1.0


class Sent(enum.Enum):
    """The outcome of sending a message to a client."""

    TAKEN = "taken"
    #: The client's queue is full; try again later.
    FULL = "full"
    #: The client is no longer connected.
    GONE = "gone"


class RouterListener(Protocol):
    """Receives what happens at a RouterSocket. All methods run inside the reactor."""

    def on_connect(self, routing_id: bytes, address: str, key: bytes = b"") -> Any:
        """The first message of `routing_id`, at the host `address`, arrived. Returns the client object for this routing id.

        `key`: the public key that the peer has proven if connections are encrypted.
        """

    def on_message(self, client: Any, body: bytes) -> bool:
        """The body of a message arrived. Fetch its payload, if it announces one, with `RouterSocket.take_payload`.

        Returns True if handling it was so much work that other sockets should have a turn before the next message.
        """

    def refuse_routing_id(self, routing_id: bytes, address: str) -> None:
        """A peer uses a routing id made by ZeroMQ, which others can guess. Its messages are dropped."""

    def on_batch_end(self) -> None:
        """Called after the messages that had arrived. More may follow at once."""

    def on_disconnect(self) -> None:
        """A connection ended; ZeroMQ does not say which."""


def _address_of(frame: Any) -> str:
    """The host that sent a message. Only uncopied frames tell it. They are slower, so only a peer's first message is read so."""
    try:
        return str(frame.get("Peer-Address"))
    except (KeyError, zmq.ZMQError):
        return "?"


def _descriptor_of(frame: Any) -> int:
    """The descriptor of the connection over which a message came; -1 if ZeroMQ does not say."""
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:
        return -1


class RouterSocket:
    """A ROUTER bound to `address` (`tcp://IP:port`; port 0 for any). `endpoint` is its address."""

    def __init__(self, reactor: Reactor, sockets: Sockets, address: str, listener: RouterListener) -> None:
        self._listener = listener
        self._closed = False
        #: Whether this turn has another receive to come. It will find messages whose arrival a send may have hidden.
        self._is_draining = False
        #: Whether the last turn had a single message. The next turn probably has only one as well.
        self._comes_alone = False
        #: How many messages the last turn had that ended before the socket was empty.
        self._turn = DRAIN_QUOTA
        #: The client of each routing id. The listener removes clients that have disconnected: see `forget`.
        self.clients: dict[bytes, Any] = {}
        #: Those of them whose connection is known. The next message of any other peer is asked over which connection it came.
        self._located: dict[bytes, Any] = {}
        #: The routing ids whose messages are dropped unread. The listener adds and removes them; they are no clients meanwhile.
        self.blocked: set[bytes] = set()
        self.socket = sockets.router()
        self.endpoint = bind(self.socket, address)
        self._bound = {self.endpoint}
        self._is_encrypted = sockets.options.keys is not None
        events = ACCEPTED | DISCONNECTED | (HANDSHAKE_FAILED if self._is_encrypted else 0)
        self._monitor = Monitor(reactor, sockets, self.socket, events, self._tell)
        self._silent = SilentConnections(
            reactor, self.endpoint, sockets.options.hello_timeout, self._read_events, self._drain_now
        )
        self._faults = Faults(_log)
        self._accepting = Accepting(reactor, self.endpoint)
        self._get: Any = self.socket.get
        self._watch = reactor.watch(self)
        self._arm = self._watch.arm

    def _tell(self, event: int, value: int) -> None:
        if self._closed:
            return
        if event == ACCEPTED:
            self._silent.accepted(value)
        elif event & HANDSHAKE_FAILED:
            why = "its handshake failed: it does not encrypt, or it expects another key here"
            self._faults.saw(f"a peer at {self.endpoint}", why)
        else:
            routing_id = self._silent.ended(value)
            if routing_id is not None:
                self.greeted_again(routing_id)
            elif (peer := self._silent.unlocated(value)) is not None:
                self._located.pop(peer, None)
            self._listener.on_disconnect()

    def _read_events(self) -> None:
        while not self._closed and self._monitor.drain():
            pass

    def _drain_now(self) -> int:
        """Hand over waiting messages. Returns how many, at least, if there may be more; 0 if there are none."""
        if self._closed or self._watch.is_closed:
            return 0
        self._turn = DRAIN_QUOTA
        try:
            return self._turn if self.drain() else 0
        finally:
            if not self._closed:
                self._arm()

    def greeted(self, routing_id: bytes) -> None:
        """The peer has become a client. Until then, and after `forget`, its connection is ended after `hello_timeout`."""
        if routing_id in self._located:
            self._silent.greeted(routing_id)

    def greeted_again(self, routing_id: bytes) -> None:
        """A client has said HELLO again, or its connection has ended. Its next message tells which connection it has now."""
        if self._located.pop(routing_id, None) is not None:
            self._silent.moved(routing_id)

    def heard(self, routing_id: bytes) -> None:
        """A peer that has said no HELLO shows that it is there. Its connection may wait for the HELLO anew."""
        if routing_id in self._located:
            self._silent.heard(routing_id)

    def forget(self, routing_id: bytes) -> None:
        """Remove a client that is gone or given up."""
        self.clients.pop(routing_id, None)
        self._located.pop(routing_id, None)
        self._silent.forget(routing_id)

    def send(self, routing_id: bytes, frames: bytes | tuple[bytes, bytes]) -> Sent:
        """Hand a message to ZeroMQ. Only the first frame can be refused; the others follow it."""
        socket = self.socket
        try:
            _send(socket, routing_id, _MORE)
            if isinstance(frames, bytes):
                _send(socket, frames, _NOBLOCK)
            else:
                _send(socket, frames[0], _MORE)
                _send(socket, uncopied.frame(frames[1]), _NOBLOCK)
                note_large_message()
        except zmq.Again:
            return Sent.FULL
        except zmq.ZMQError as exc:
            if self._closed or exc.errno == zmq.EHOSTUNREACH:
                return Sent.GONE
            raise
        finally:
            if not self._is_draining and not self._closed:
                self._arm()
        return Sent.TAKEN

    def listen_at(self, host: str) -> None:
        """Also accept connections at this address of the host, at the same port. Raises ConfigurationError if it cannot be bound.

        The former address stays bound, because unbinding it would end its connections.
        """
        address = addresses.join(host, addresses.parse(self.endpoint)[1])
        if address not in self._bound:
            bind_also(self.socket, address)
            self._bound.add(address)

    def take_payload(self) -> bytes | None:
        """The frame that follows the last received body; None if there is none."""
        if not self.socket.get(zmq.RCVMORE):
            return None
        payload: bytes = self.socket.recv(_NOBLOCK)
        note_large_message()
        return payload

    # Almost the same as the drain of DealerLink. They are kept apart because a shared loop would cost a call per message.
    def drain(self) -> bool:
        # A message is [routing id, body], and a payload if the body announces one. It is not asked per message whether more
        # frames follow, since that takes longer than both receives. A stray frame is then read as an unknown routing id. It
        # cannot be another peer's id: those are 16 random bytes that only this node knows.
        socket, clients, listener = self.socket, self._located, self._listener
        on_message = listener.on_message
        count = unheard = 0
        more = self._is_draining = True
        try:
            for _ in range(DRAIN_QUOTA):
                if self._closed:
                    return False
                routing_id = _recv(socket, _NOBLOCK)
                client = clients.get(routing_id)
                if client is None:
                    unheard = 1
                    self._admit(routing_id)
                    continue
                count += 1
                unheard = 1
                if on_message(client, _recv(socket, _NOBLOCK)):
                    self._turn = count
                    break
                if self._comes_alone:
                    # Handle this message before asking for the next one, so that its answer leaves sooner.
                    self._comes_alone = False
                    unheard = 0
                    listener.on_batch_end()
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

    def _admit(self, routing_id: bytes) -> None:
        """Handle the first message of a new peer, or of a client over another connection."""
        # A frame that does not look like a routing id of this protocol is a stray frame. It counts as a message of this turn, so
        # that a message of very many frames does not delay others for long. Or the peer let ZeroMQ choose its id; it is told the
        # mistake. The form of the frame is checked first, because that is quicker than to ask ZeroMQ whether more frames follow.
        socket = self.socket
        is_ours = len(routing_id) == ROUTING_ID_LENGTH and routing_id[:1] == ROUTING_ID_PREFIX
        if not (is_ours or len(routing_id) == 5 and routing_id[0] == 0) or not socket.get(zmq.RCVMORE):
            return
        if routing_id in self.blocked:
            # Not copied: a message of megabytes costs no more than a short one.
            _recv(socket, _NOBLOCK, copy=False)
        elif is_ours:
            frame = _recv(socket, _NOBLOCK, copy=False)
            client = self.clients.get(routing_id)
            if client is None:
                key = (zap.key_of(frame),) if self._is_encrypted else ()
                client = self.clients[routing_id] = self._listener.on_connect(routing_id, _address_of(frame), *key)
            self._located[routing_id] = client
            self._silent.located(routing_id, _descriptor_of(frame))
            self._listener.on_message(client, frame.bytes)
        else:
            self._listener.refuse_routing_id(routing_id, _address_of(_recv(socket, _NOBLOCK, copy=False)))

    def close(self, linger: float = LAST_WORDS) -> None:
        """Close the socket. Messages that ZeroMQ has taken may still be sent for `linger` seconds."""
        if not self._closed:
            self._closed = True
            self._silent.close()
            self._accepting.close()
            self._watch.close()
            self._monitor.close()
            self.socket.close(linger=int(linger * 1000))
