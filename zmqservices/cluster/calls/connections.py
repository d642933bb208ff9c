"""The nodes that are connected to a call server: greets them, notices the end of connections, and gives up nodes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any, Protocol

from discovery.exceptions import SecurityError
from discovery.faults import BLOCK_TIME, FaultCount, too_many
from discovery.greeting import OF_ALL_NAMESPACES, RECORDS, RENEWS
from discovery.security.list_exchange import REVOCATIONS, REVOKED, ListExchange
from discovery.security.renewal import lists_of
from discovery.security.verdicts import Refusal
from zmqservices.cluster.calls.cork import LARGEST_TOGETHER
from zmqservices.cluster.calls.flow_control import FlowControlWindow
from zmqservices.cluster.calls.identity import Authorizer
from zmqservices.cluster.calls.incoming import ClientConnection
from zmqservices.cluster.calls.refusals import refusal
from zmqservices.cluster.calls.replies import ReplySender, ServerSocket
from zmqservices.cluster.calls.send_queue import SendQueue
from zmqservices.cluster.limit_settings import LimitSettings
from zmqservices.constants import DEFAULT_MAX_FAULTS_PER_SECOND, DEFAULT_MAX_HELLO_SIZE
from zmqservices.exceptions import ProtocolError
from zmqservices.transport import Sent
from zmqservices.transport.faults import Faults
from zmqservices.transport.reactor import Reactor
from zmqservices.wire import batches, envelope
from zmqservices.wire.messages import MAJOR, MINOR, WAITING, Batch, Call, Error, Hello, Message, Ping, Pong, Welcome
from zmqservices.wire.quoting import quoted
from zmqservices.wire.shapes import LONGEST_NAME, is_count

_log = logging.getLogger(__name__)

#: Seconds after the end of a connection at which the server finds out which client it was. ZeroMQ reports the end shortly before
#: it refuses to send there. On a busy machine it takes longer.
GONE_CHECK_DELAYS = (0.0, 0.05, 0.5, 3.0)

#: Seconds between two attempts to tell a client that it was given up.
GIVEN_UP_INTERVAL = 0.1


class Blocked(Exception):
    """The client whose message is handled has just been blocked. The rest of that message is dropped as well."""


class ConnectionsOwner(Protocol):
    """A CallServer."""

    def described(self) -> dict[str, Any]:
        """The services that are served here, for a WELCOME."""

    def records(self) -> list[dict[str, Any]]:
        """The records of this node's instances as a directory would list them, for clients that ask."""

    def on_message_kind(self, client: ClientConnection, message: Message) -> None:
        """Handle a message that is allowed before the HELLO."""

    def on_client_end(self, client: ClientConnection) -> None:
        """The client is gone or given up: stop its calls."""


class Connections:
    """All clients of one server socket. `node` is the id of this process's node."""

    def __init__(
        self,
        owner: ConnectionsOwner,
        reactor: Reactor,
        socket: ServerSocket,
        node: str,
        namespace: str,
        tokens: Iterator[int],
        max_message_size: int,
        clock: Callable[[], float] = monotonic,
        guard: Authorizer | None = None,
        limits: LimitSettings | None = None,
    ) -> None:
        self._guard = guard
        self._most = None if limits is None else limits.max_clients
        self._longest_hello = DEFAULT_MAX_HELLO_SIZE if limits is None else limits.max_hello_size
        self._most_faults = DEFAULT_MAX_FAULTS_PER_SECOND if limits is None else limits.max_faults_per_second
        self._clock = clock
        self._owner = owner
        self._reactor = reactor
        self._socket = socket
        self._node = node
        self._namespace = namespace
        self._checks: set[float] = set()
        #: The routing ids of clients that were given up and could not be told so yet.
        self.given_up: set[bytes] = set()
        self._has_given_up_timer = False
        self._is_closed = False
        self._faults = Faults(_log)
        self._blocks = Faults(_log)
        most_unread = None if limits is None else limits.max_unread_bytes
        self.sender = ReplySender(reactor, socket, self, tokens, max_message_size, clock, most_unread)

    # --- the greeting ------------------------------------------------------------------------------------------------

    def connect(self, routing_id: bytes, address: str, key: bytes = b"") -> ClientConnection:
        """Make the object for a new client, which has sent no HELLO yet."""
        return ClientConnection(routing_id, self.sender.in_flight, self.sender.queued, address, key)

    def refuse_routing_id(self, routing_id: bytes, address: str) -> None:
        self._faults.saw(f"a peer at {address}", "it lets ZeroMQ choose its routing id")
        text = "set ROUTING_ID to a byte of value 1 and 16 random ones: ZeroMQ's own choice can be guessed by others"
        if self._socket.send(routing_id, envelope.encode(Error(None, refusal("protocol", text)))) is not Sent.GONE:
            # It cannot use this connection anyway. An id that belongs to no connection is not remembered, as anybody could
            # send very many of these.
            self._drop_for_a_while(routing_id)

    def on_stranger(self, client: ClientConnection, body: bytes) -> None:
        """Handle a message that came before a HELLO. Only HELLO and PING are accepted, and no long message is decoded."""
        try:
            call_id = envelope.call_id_of(body)
            if call_id is not None:
                # A node that was given up here sends HELLO again once a call of it is refused. Only the call's id is read.
                self._refuse_call(client, call_id)
                return
            if batches.is_batch(body) and len(body) <= LARGEST_TOGETHER:
                self._refuse_calls(client, envelope.decode(body))
                return
            if len(body) > self._longest_hello:
                raise ProtocolError(
                    f"{len(body):,} bytes came before a HELLO, which takes {self._longest_hello:,} at most (max_hello_size)"
                )
            message = envelope.decode(body)
        except ProtocolError as exc:
            self._faults.saw(str(client), exc)
            self.refuse_junk(client, f"not a message of this protocol: {exc}")
            return
        if type(message) in (Hello, Ping):
            if type(message) is Ping and self._guard is None:
                # It may be a probe, which is no client. In a closed cluster only a certificate keeps a connection.
                self._socket.heard(client.routing_id)
            self._owner.on_message_kind(client, message)
        else:
            # A node that was given up may send this before it knows. A refusal without a call's id would end the link for
            # ever, so the node gets a PONG, and sending that shows whether it is still connected.
            self._faults.saw(str(client), f"its {type(message).__name__.upper()} came before a HELLO")
            self.sender.send(client, envelope.encode(Pong(0)))

    def refuse_junk(self, client: ClientConnection, why: str) -> None:
        """Answer a message that is none of the protocol. Raises Blocked after too many."""
        self.sender.refuse(client, None, "protocol", why)
        self.count_fault(client)

    def count_fault(self, client: ClientConnection) -> None:
        """A message of the client that was answered already was a faulty one. After too many, blocks it and raises Blocked."""
        # By connection: honest clients may share an address with others, or a key with a process that went wrong.
        if client.faults is None:
            client.faults = FaultCount()
        if not client.faults.add(self._most_faults, self._clock()):
            return
        self._blocks.saw(str(client), too_many(self._most_faults, "it sends"))
        self.sender.refuse(client, None, "protocol", too_many(self._most_faults))
        self._drop_for_a_while(client.routing_id)
        self.remove(client)
        raise Blocked

    def _drop_for_a_while(self, routing_id: bytes) -> None:
        self._socket.blocked.add(routing_id)
        self._reactor.call_later(BLOCK_TIME, self._socket.blocked.discard, routing_id)

    def _refuse_calls(self, client: ClientConnection, batch: Message) -> None:
        for fields in batch.messages if type(batch) is Batch else ():
            if type(fields) is list and len(fields) > 1 and fields[0] == Call.KIND and is_count(fields[1]):
                self._refuse_call(client, fields[1])

    def _refuse_call(self, client: ClientConnection, call_id: int) -> None:
        self.sender.refuse(client, call_id, "protocol", "a CALL came before a HELLO")

    def on_hello(self, client: ClientConnection, hello: Hello) -> None:
        fault = self._fault_of(hello) or self._identify(client, hello) or self._exchange(client, hello) or self._crowd(client)
        if fault is not None:
            self.sender.refuse(client, None, *fault)
            self.count_fault(client)
            return
        if client.node and self._guard is not None and (hello.info or {}).get(RENEWS) is True:
            # The HELLO only shows a newer certificate. The client's calls go on.
            return
        is_again = bool(client.node)
        if is_again:
            # A new connection replaced an old one whose end was not noticed yet, or the client was told to send HELLO again.
            self._begin_anew(client)
        client.node = hello.node or "?"
        client.asks_records = bool(_asked_records(hello))
        client.reads_waiting = (hello.info or {}).get(WAITING) is True
        self.given_up.discard(client.routing_id)
        self._welcome(client)
        if is_again:
            # The answer to this PING tells which connection it is.
            self._socket.greeted_again(client.routing_id)
            self.sender.send(client, envelope.encode(Ping(0)))
        else:
            self._socket.greeted(client.routing_id)

    def _fault_of(self, hello: Hello) -> tuple[str, str] | None:
        """The code and the text of the refusal of this HELLO; None if it is accepted."""
        if hello.major != MAJOR:
            return "version", f"version {MAJOR} of the protocol is spoken here, not {hello.major}"
        if hello.namespace != self._namespace and _asked_records(hello) != OF_ALL_NAMESPACES:
            return "protocol", f"this node is in namespace {self._namespace!r}, not {quoted(hello.namespace)}"
        if len(hello.node) > LONGEST_NAME or not hello.node.isprintable():
            text = f"a node's id has {LONGEST_NAME} printable characters at most; this one is {quoted(hello.node)}"
            return "protocol", text
        return None

    def _identify(self, client: ClientConnection, hello: Hello) -> tuple[str, str] | None:
        """Identify the client by its certificate. Returns the code and the text of the refusal if that fails."""
        if self._guard is None:
            return None
        try:
            client.identity = self._guard.identify(hello.info, client.key)
        except Refusal as exc:
            self._faults.saw(str(client), f"its HELLO is refused: {exc}")
            return "forbidden", str(exc)
        return None

    def _exchange(self, client: ClientConnection, hello: Hello) -> tuple[str, str] | None:
        """Take the lists of revoked certificates in a HELLO, and note which ones the client has, if it passes them on."""
        if self._guard is None or REVOCATIONS not in (hello.info or {}):
            return None
        if client.lists is None:
            client.lists = ListExchange(self._guard.keys)
        try:
            # `keys_changed` follows when the keys are looked at next.
            client.lists.takes(hello.info)
        except SecurityError as exc:
            self._faults.saw(str(client), f"its HELLO is refused: {exc}")
            return "protocol", str(exc)
        return None

    def _crowd(self, client: ClientConnection) -> tuple[str, str] | None:
        """The refusal of a client beyond `max_clients`; None below that."""
        clients = self._socket.clients
        if self._most is None or client.node or len(clients) <= self._most:
            return None
        if sum(1 for one in clients.values() if one.node) < self._most:
            return None
        self._faults.saw(str(client), f"it is one client too many: max_clients is {self._most:,}")
        return "overloaded", f"this node has {self._most:,} clients, which is its max_clients"

    def _welcome(self, client: ClientConnection) -> None:
        info = self._owner.described()
        if client.reads_waiting:
            info[WAITING] = True
        if client.asks_records:
            info[RECORDS] = self._owner.records()
        if self._guard is not None:
            info |= self._guard.info
            # Without registries, nobody else passes lists of revoked certificates on.
            if client.lists is not None:
                info |= client.lists.told()
            elif client.asks_records:
                info[REVOKED] = lists_of(self._guard.keys)
        self.sender.send(client, envelope.encode(Welcome(MAJOR, MINOR, self._node, self._namespace, info)))
        if client.lists is not None and client.lists.is_due:
            # One message has not room for all lists that the client lacks.
            self._welcome(client)

    def keys_changed(self, is_own: bool) -> None:
        """Disconnect clients whose certificates are no longer valid. `is_own`: show the others this node's new certificate."""
        if self._guard is None:
            return
        for client in list(self._socket.clients.values()):
            if client.identity is None:
                continue
            try:
                self._guard.confirm(client.identity)
            except Refusal as exc:
                self._cut_off(client, str(exc))
        if is_own:
            self.welcome_all()
        else:
            self.welcome_asking()
            for client in list(self._socket.clients.values()):
                if client.node and client.lists is not None and client.lists.is_due:
                    self._welcome(client)

    def _cut_off(self, client: ClientConnection, why: str) -> None:
        _log.warning("cut off %s: %s", client, why)
        for call_id in list(client.calls):
            self.sender.refuse(client, call_id, "forbidden", why)
        self.sender.refuse(client, None, "forbidden", why)
        self.remove(client)

    def welcome_all(self) -> None:
        """Send all clients a WELCOME with the present services and instances."""
        for client in list(self._socket.clients.values()):
            if client.node:
                self._welcome(client)

    def welcome_asking(self) -> None:
        """Send the clients that asked for records a WELCOME with the new ones."""
        for client in list(self._socket.clients.values()):
            if client.node and client.asks_records:
                self._welcome(client)

    # --- clients that go ---------------------------------------------------------------------------------------

    def on_disconnect(self) -> None:
        """A connection ended; ZeroMQ does not say which. Sending to each client finds those that are gone."""
        for delay in GONE_CHECK_DELAYS:
            if delay not in self._checks:
                self._checks.add(delay)
                self._reactor.call_later(delay, self._find_gone, delay)

    def _find_gone(self, delay: float) -> None:
        self._checks.discard(delay)
        if self._is_closed:
            return
        pong = envelope.encode(Pong(0))
        for client in list(self._socket.clients.values()):
            if self._socket.send(client.routing_id, pong) is Sent.GONE:
                self.remove(client)

    def give_up(self, client: ClientConnection) -> None:
        """Remove a client that is still connected, and tell it so as soon as it has room for a message.

        Otherwise it might wait for answers or events that will not come, and never find out.
        """
        if client.node:
            self.given_up.add(client.routing_id)
            self._set_given_up_timer()
        self.remove(client)

    def _set_given_up_timer(self) -> None:
        if self.given_up and not self._has_given_up_timer:
            self._has_given_up_timer = True
            self._reactor.call_later(GIVEN_UP_INTERVAL, self._tell_given_up)

    def _tell_given_up(self) -> None:
        self._has_given_up_timer = False
        if self._is_closed:
            return
        # The id 0 is the id of no call.
        error = envelope.encode(Error(0, refusal("protocol", "this node was given up here; it has to say HELLO again")))
        self.given_up = {routing_id for routing_id in self.given_up if self._socket.send(routing_id, error) is Sent.FULL}
        self._set_given_up_timer()

    def remove(self, client: ClientConnection) -> None:
        """The client is gone or given up: stop its calls, and drop the messages that wait for it."""
        # If a given-up client has sent something since, another object has its routing id.
        if self._socket.clients.get(client.routing_id) is client:
            self._socket.forget(client.routing_id)
        self._end(client)
        # Anything still sent to it must not count in the totals of all clients.
        client.window, client.send_queue = FlowControlWindow(), SendQueue()

    def _begin_anew(self, client: ClientConnection) -> None:
        """Stop the client's earlier calls. Its callers lost them with the former connection."""
        self._end(client)
        client.window = FlowControlWindow(self.sender.in_flight)

    def _end(self, client: ClientConnection) -> None:
        client.send_queue.clear()
        client.window.close()
        self._owner.on_client_end(client)

    def close(self) -> None:
        self.sender.close()
        self._is_closed = True


def _asked_records(hello: Hello) -> Any:
    return (hello.info or {}).get(RECORDS)
