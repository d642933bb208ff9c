"""Sends the messages of a call server: several together if possible, and as fast as each client reads.

Flow control: large messages wait while the client's window is full. Backpressure: messages for which ZeroMQ's queue has no room
wait in the client's send queue. Load shedding: a client whose send queue overflows is given up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic
from typing import Protocol

from zmqservices.cluster.calls.cork import LONGEST, Cork
from zmqservices.cluster.calls.flow_control import UNCOUNTED, InFlightTotal
from zmqservices.cluster.calls.incoming import ClientConnection
from zmqservices.cluster.calls.refusals import refusal
from zmqservices.cluster.calls.send_queue import QueuedTotal, size_of
from zmqservices.transport import Sent
from zmqservices.transport.reactor import Reactor
from zmqservices.wire import batches, envelope
from zmqservices.wire.envelope import Frames
from zmqservices.wire.messages import Error, Ping

_log = logging.getLogger(__name__)

#: Seconds between two attempts to send from the clients' send queues.
SEND_QUEUE_INTERVAL = 0.01


class ServerSocket(Protocol):
    """The socket to which nodes connect; a `RouterSocket`."""

    endpoint: str
    #: The connected nodes, by routing id.
    clients: dict[bytes, ClientConnection]
    #: The routing ids of connections whose messages are dropped unread.
    blocked: set[bytes]

    def send(self, routing_id: bytes, frames: Frames) -> Sent: ...

    def take_payload(self) -> bytes | None: ...

    def listen_at(self, host: str) -> None: ...

    def greeted(self, routing_id: bytes) -> None:
        """The peer has become a client. A connection that shows no client is ended after a while."""

    def greeted_again(self, routing_id: bytes) -> None:
        """A client has said HELLO again, perhaps over another connection. Its next message tells which."""

    def heard(self, routing_id: bytes) -> None:
        """A peer that has said no HELLO shows that it is there."""

    def forget(self, routing_id: bytes) -> None:
        """Remove a client that is gone or given up."""

    def close(self) -> None: ...


class ClientOwner(Protocol):
    """Ends clients that can no longer be served; the Connections."""

    def remove(self, client: ClientConnection) -> None:
        """The connection is gone."""

    def give_up(self, client: ClientConnection) -> None:
        """The client is connected, but does not read."""


class ReplySender:
    """Sends to the clients of one server socket. `tokens`: numbers for its PINGs."""

    def __init__(
        self,
        reactor: Reactor,
        socket: ServerSocket,
        owner: ClientOwner,
        tokens: Iterator[int],
        max_message_size: int,
        clock: Callable[[], float] = monotonic,
        max_unread_bytes: int | None = None,
    ) -> None:
        self._reactor = reactor
        self._socket = socket
        self._owner = owner
        self._tokens = tokens
        self.max_message_size = max_message_size
        self._clock = clock
        #: Holds messages while a batch is handled, or during one turn of the event loop.
        self.cork = Cork(self._pour, reactor.defer, clock)
        #: Whether a single message is being handled. Its answer is sent at once, since no other answer will leave with it.
        self.is_alone = False
        #: The bytes in flight to all clients, and the bytes in all send queues.
        self.in_flight = InFlightTotal()
        self.queued = QueuedTotal(max_unread_bytes)
        self._has_timer = False
        self._is_closed = False

    def refuse(self, client: ClientConnection, call_id: int | None, code: str, value: str) -> None:
        """Send an ERROR about a call; with None about the connection, which the client then stops using."""
        self.send(client, envelope.encode(Error(call_id, refusal(code, value))))

    def send(self, client: ClientConnection, frames: Frames) -> None:
        """Send a message. It is queued while the client's queue is full, and dropped if the client is gone."""
        if self.is_alone:
            self.is_alone = False
            self.send_now(client, frames)
            return
        cork = self.cork
        now = self._clock()
        if cork.is_in or cork.join(now):
            if type(frames) is bytes and len(frames) <= LONGEST and client.node:
                cork.hold((client, frames), now)
                return
            cork.release()
        self.send_now(client, frames)

    def together(self, work: Callable[..., object], *args: object) -> None:
        """Call `work(*args)`, and send its messages together."""
        if self.cork.is_in:
            work(*args)
            return
        self.cork.begin(self._clock())
        try:
            work(*args)
        finally:
            self.cork.end()

    def _pour(self, messages: list[tuple[ClientConnection, bytes]]) -> None:
        by_client: dict[ClientConnection, list[bytes]] = {}
        for client, body in messages:
            by_client.setdefault(client, []).append(body)
        for client, bodies in by_client.items():
            self.send_now(client, batches.encode(bodies))

    def send_now(self, client: ClientConnection, frames: Frames) -> None:
        """As `send`, but without holding the message for others that could leave with it."""
        if not client.send_queue.messages:
            # The beginning of `_hand_on`, repeated here because nearly all messages pass here.
            if type(frames) is bytes and len(frames) <= UNCOUNTED:
                sent = self._socket.send(client.routing_id, frames)
            else:
                sent = self._hand_on(client, frames)
            if sent is Sent.TAKEN:
                return
            if sent is Sent.GONE:
                self._owner.remove(client)
                return
        if not client.node:
            return  # Nothing is queued for a peer that has sent no HELLO.
        self._queue(client, frames)

    def _queue(self, client: ClientConnection, frames: Frames) -> None:
        client.send_queue.add(frames)
        if client.send_queue.is_too_long:
            _log.warning(
                "gave up node %s: it does not read its answers; %s of them wait, with %s bytes",
                client.node, f"{len(client.send_queue):,}", f"{client.send_queue.bytes:,}",
            )  # fmt: skip
            self._owner.give_up(client)
            return
        if self.queued.is_too_much:
            self._give_up_longest()
        self._set_timer()

    def _give_up_longest(self) -> None:
        """The send queues of all clients are too long together: give up the client with the longest."""
        client = max(self._socket.clients.values(), key=lambda client: client.send_queue.bytes)
        _log.warning(
            "gave up node %s: of %s bytes of answers that wait for their nodes to read, it has the most, %s",
            client.node, f"{self.queued.bytes:,}", f"{client.send_queue.bytes:,}",
        )  # fmt: skip
        self._owner.give_up(client)

    def _hand_on(self, client: ClientConnection, frames: Frames) -> Sent:
        size = size_of(frames)
        if size <= UNCOUNTED:
            return self._socket.send(client.routing_id, frames)
        window = client.window
        sent = Sent.FULL
        if not window.is_full:
            sent = self._socket.send(client.routing_id, frames)
            if sent is Sent.TAKEN:
                window.sent(size)
        now = self._clock()
        if window.wants_to_ask(now):
            token = next(self._tokens)
            asked = self._socket.send(client.routing_id, envelope.encode(Ping(token)))
            if asked is Sent.TAKEN:
                window.asked(token, now)
            elif asked is Sent.GONE:
                return asked
        return sent

    # --- send queues -------------------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        if not self._has_timer:
            self._has_timer = True
            self._reactor.call_later(SEND_QUEUE_INTERVAL, self._on_timer)

    def _on_timer(self) -> None:
        self._has_timer = False
        self._send_queued()

    def _send_queued(self) -> None:
        if self._is_closed:
            return
        for client in [client for client in self._socket.clients.values() if client.send_queue]:
            self.send_queued(client)

    def send_queued(self, client: ClientConnection) -> None:
        """Send as much of the client's send queue as there is room for, and the rest soon."""
        sent = client.send_queue.hand_on(partial(self._hand_on, client))
        if sent is Sent.GONE:
            self._owner.remove(client)
        elif sent is Sent.FULL:
            self._set_timer()

    def close(self) -> None:
        """Send held messages, and as much of the send queues as there is room for."""
        self.cork.release()
        self._send_queued()
        self._is_closed = True
