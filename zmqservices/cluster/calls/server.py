"""The server side of calls: hands calls to the services of this node, and stops calls that their callers have given up.

Runs on a gevent hub. A service is a name and three functions: `take(call)`, which must not block, `flush()`, which is called once
after all calls that had arrived were taken, and `cancel(worker, why)`.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sized
from functools import partial
from time import monotonic
from typing import Any, Protocol, TypeAlias

from zmqservices.cluster.calls.connections import Blocked, Connections
from zmqservices.cluster.calls.cork import LARGEST_TOGETHER
from zmqservices.cluster.calls.drain import Drain
from zmqservices.cluster.calls.identity import Authorizer
from zmqservices.cluster.calls.incoming import ClientConnection, IncomingCall, Served
from zmqservices.cluster.calls.replies import ServerSocket
from zmqservices.cluster.calls.services import SHARED, ServiceTable, least_busy
from zmqservices.cluster.limit_settings import LimitSettings
from zmqservices.exceptions import MalformedRequest, MessageTooLarge, ProtocolError, serialize
from zmqservices.probes import Measure, Watched
from zmqservices.transport import RouterSocket, Sockets
from zmqservices.transport.faults import Faults
from zmqservices.transport.reactor import COUNTED_BYTES, COUNTED_REFUSAL, DRAIN_QUOTA, Reactor
from zmqservices.transport.router import RouterListener
from zmqservices.wire import envelope
from zmqservices.wire.envelope import decode, message_of
from zmqservices.wire.messages import Batch, Bye, Cancel, Error, Hello, Message, Ping, Pong
from zmqservices.wire.payloads import Payloads
from zmqservices.wire.quoting import plain, quoted
from zmqservices.wire.shapes import LONGEST_NAME

_log = logging.getLogger(__name__)

#: Binds a socket to an address. The socket reports to the listener.
NewServerSocket: TypeAlias = Callable[[Reactor, Sockets, str, RouterListener], ServerSocket]


class Flushable(Protocol):
    """Something that is flushed once after all messages that had arrived were handled."""

    def flush(self) -> None: ...


class CallServer(Watched):
    """The listener of one bound server socket. Services may come and go. `clock` returns monotonic seconds.

    `send(client, frames)` sends a message, and `together(work, *args)` sends all messages of `work` together.
    """

    def __init__(
        self,
        reactor: Reactor,
        sockets: Sockets,
        address: str,
        node: str,
        namespace: str,
        max_message_size: int,
        clock: Callable[[], float] = monotonic,
        new_socket: NewServerSocket = RouterSocket,
        guard: Authorizer | None = None,
        limits: LimitSettings | None = None,
    ) -> None:
        self.watch()
        self.limits = limits or LimitSettings()
        self._headers = self.limits.headers
        #: Bytes of a call that neither counts as more than one message nor needs a look at its headers.
        self._short = min(COUNTED_BYTES, self._headers.unchecked)
        self._clock = clock
        self._table = ServiceTable()
        self._services = self._table.by_name
        self._to_flush: set[Flushable] = set()
        self._on_disconnected: Callable[[ClientConnection], None] | None = None
        #: The time at which the current batch arrived; 0 between batches.
        self._batch_time = 0.0
        #: What counts against DRAIN_QUOTA in this turn besides the number of messages.
        self._batched = 0
        #: The messages since the last end of a batch.
        self._messages = 0
        self._closed = False
        #: Returns the records of this node's instances as a directory would list them. Set by the node.
        self.records: Callable[[], list[dict[str, Any]]] = list
        self._handlers: dict[type, Callable[[ClientConnection, Any], None]] = {
            Cancel: self._on_cancel,
            Hello: self._on_hello,
            Ping: self._on_ping,
            Pong: self._on_pong,
            Bye: self._on_bye,
            Error: self._ignore,
        }
        self._router = new_socket(reactor, sockets, address, self)
        self._payloads = Payloads(self._router.take_payload)
        self._faults = Faults(_log)
        tokens = itertools.count(1)
        self.connections = Connections(
            self, reactor, self._router, node, namespace, tokens, max_message_size, clock, guard, limits
        )
        self.sender = sender = self.connections.sender
        self._cork = sender.cork
        self.send, self.together, self._refuse = sender.send, sender.together, sender.refuse
        self.draining = Drain(
            self._router.clients,
            self._table.instances,
            tokens,
            sender.send,
            partial(self._stop, is_told=True),
            self.connections.welcome_all,
            clock,
        )

    @property
    def endpoint(self) -> str:
        """The bound address with its port."""
        return self._router.endpoint

    def listen_at(self, host: str) -> None:
        """Also accept connections at this address of the host. Raises ConfigurationError if it cannot be bound."""
        self._router.listen_at(host)

    # --- the services ------------------------------------------------------------------------------------------------

    def serve(
        self,
        name: str,
        instance: str,
        take: Callable[[IncomingCall], None],
        flush: Callable[[], None],
        cancel: Callable[[Any, str], None],
        idempotent: Iterable[str] = (),
        queue: Sized = (),
    ) -> Served:
        """Hand calls to `name` to `take` from now on. `cancel(worker, why)` must stop a running call.

        `worker` is what `take` left in `call.worker`. `queue` holds the calls that wait for a worker; callers are told its
        length. Several instances of `name` in this node share its calls.
        """
        served = Served(name, instance, take, flush, cancel, idempotent, queue)
        self._table.add(served)
        self.connections.welcome_all()
        return served

    def leave(self, served: Served) -> None:
        """Remove an instance. Once the last instance of a service has left, calls to it are refused as unknown."""
        self._table.remove(served)

    def described(self) -> dict[str, Any]:
        """The services that are served here, for a WELCOME."""
        return self._table.described()

    def handle_also(
        self,
        kinds: dict[type, Callable[[ClientConnection, Any], None]],
        on_disconnected: Callable[[ClientConnection], None],
    ) -> None:
        """From now on hand messages of these kinds to these functions.

        `on_disconnected` is called for each client that is gone.
        """
        self._handlers.update(kinds)
        self._on_disconnected = on_disconnected

    def request_flush(self, to_flush: Flushable) -> None:
        """Call `to_flush.flush()` once all messages that have arrived are handled. For functions that handle messages."""
        self._to_flush.add(to_flush)

    # --- the socket's listener ---------------------------------------------------------------------------------------

    def on_connect(self, routing_id: bytes, address: str, key: bytes = b"") -> ClientConnection:
        return self.connections.connect(routing_id, address, key)

    def refuse_routing_id(self, routing_id: bytes, address: str) -> None:
        self.connections.refuse_routing_id(routing_id, address)

    def on_disconnect(self) -> None:
        self.connections.on_disconnect()

    def on_message(self, client: ClientConnection, body: bytes) -> bool:
        if not self._batch_time:
            self._batch_time = self._clock()
        self._messages += 1
        try:
            if not client.node:
                self.connections.on_stranger(client, body)
                self._batched += COUNTED_REFUSAL + len(body) // COUNTED_BYTES
                return self._batched >= DRAIN_QUOTA
            size = len(body)
            payloads = self._payloads
            try:
                message = decode(body, None, IncomingCall, payloads)
                if payloads.fetched is not None:
                    size += payloads.settle(message)
            except ProtocolError as exc:
                self._refuse_junk(client, exc)
                self._batched += size // COUNTED_BYTES
                return self._batched >= DRAIN_QUOTA
            if type(message) is IncomingCall:
                if size > self._short:
                    if len(body) > self._headers.unchecked:
                        self._take_if_fit(client, message, size, len(body))
                    else:
                        self._take(client, message, size)
                    self._batched += size // COUNTED_BYTES
                    return self._batched >= DRAIN_QUOTA
                self._take(client, message, size)
            elif type(message) is Batch:
                return self._take_batch(client, message, size)
            else:
                self.on_message_kind(client, message)
            return False
        except Blocked:
            return True
        except Exception as exc:  # An error in this package's own code. Only the sender of the message suffers for it.
            self._faults.saw(str(client), f"{type(exc).__name__}; it is given up", exc)
            self.connections.give_up(client)
            return False

    def _take_batch(self, client: ClientConnection, batch: Batch, size: int) -> bool:
        # `Peer` has the same loop for its messages. One loop for both would cost another call per message.
        messages = batch.messages
        self._batched += len(messages)
        # The size of each message is unknown. A batch that is larger than any of this package's may hide one large call among
        # small ones, so each of its calls is charged the whole batch.
        take = self._take if size <= self._headers.unchecked else partial(self._take_if_fit, within=size)
        if size <= LARGEST_TOGETHER:
            size //= len(messages) or 1
        for fields in messages:
            try:
                message = message_of(fields, IncomingCall)
                if type(message) is Batch:
                    raise ProtocolError("a batch in a batch")
            except ProtocolError as exc:
                self._refuse_junk(client, exc)
                continue
            if type(message) is IncomingCall:
                take(client, message, size)
            else:
                self.on_message_kind(client, message)
        return self._batched >= DRAIN_QUOTA

    def _refuse_junk(self, client: ClientConnection, fault: ProtocolError) -> None:
        self._batched += COUNTED_REFUSAL
        self._faults.saw(str(client), fault)
        self.connections.refuse_junk(client, f"not a message of this protocol: {fault}")

    def on_message_kind(self, client: ClientConnection, message: Message) -> None:
        """Hand a message other than a CALL to the function for its kind."""
        handle = self._handlers.get(type(message))
        if handle is None:
            self.connections.refuse_junk(client, f"{type(message).__name__} is not understood here")
        else:
            handle(client, message)

    def _take(self, client: ClientConnection, call: IncomingCall, size: int) -> None:
        served = self._services.get(call.service)
        if served is None or served.is_draining or call.id in client.calls:
            if served is SHARED:
                served = least_busy(self._table.several[call.service])
            if served is None or served.is_draining or call.id in client.calls:
                self._turn_away(client, call, served)
                return
        deadline = None
        if call.time_left is not None:
            if call.time_left <= 0:
                self._refuse(client, call.id, "expired", "its time was spent before it arrived")
                self._tell_refused(call, "expired")
                return
            deadline = self._batch_time + call.time_left
        call.arrive(self.sender, client, served, deadline, size)
        self._to_flush.add(served)
        try:
            served.take(call)
        except Exception as exc:
            _log.exception("a call of %s.%s could not be taken", served.name, plain(call.method))
            call.fail({"exc_type": type(exc).__name__, "exc_path": "", "exc_args": [], "value": str(exc)})

    def _take_if_fit(self, client: ClientConnection, call: IncomingCall, size: int, within: int) -> None:
        """Take a call that came in so many bytes, `within`, that its names or headers may be too long."""
        longest = max(len(call.service), len(call.method))
        if longest <= LONGEST_NAME and self._headers.fit(call.headers, within):
            self._take(client, call, size)
            return
        try:
            if longest > LONGEST_NAME:
                raise MalformedRequest(f"a name of {longest:,} characters; {LONGEST_NAME} at most are those of anything")
            self._headers.check(call.headers, "the call", f"{call.service}.{call.method}")
        except (MalformedRequest, MessageTooLarge) as exc:
            self.send(client, envelope.encode(Error(call.id, serialize(exc))))
            self._faults.saw(str(client), exc)
            self._tell_refused(call, "too-large")
            if longest > LONGEST_NAME:
                self.connections.count_fault(client)

    def _turn_away(self, client: ClientConnection, call: IncomingCall, served: Served | None) -> None:
        client.has_late_answers = True
        if call.id in client.calls:
            self.connections.refuse_junk(client, f"call id {call.id} is in use already")
        elif served is None:
            self._refuse(client, call.id, "unknown-service", f"{quoted(call.service)} is not served here")
            self._tell_refused(call, "unknown-service")
        else:
            self._refuse(client, call.id, "draining", f"{call.service!r} is shutting down here")
            self._tell_refused(call, "draining")

    def _tell_refused(self, call: IncomingCall, reason: str) -> None:
        probes = self.probes
        if probes is not None and probes.call_refused is not None:
            probes.call_refused(call.service, call.method, reason)

    def on_batch_end(self) -> None:
        try:
            if self._to_flush:
                if self._messages == 1 and not self._batched and not self._cork.is_in:
                    sender = self.sender
                    sender.is_alone = True
                    try:
                        self._flush_all()
                    finally:
                        sender.is_alone = False
                else:
                    self.together(self._flush_all)
        finally:
            self._batch_time = 0.0
            self._batched = self._messages = 0

    def _flush_all(self) -> None:
        while self._to_flush:
            to_flush = self._to_flush.pop()
            try:
                to_flush.flush()
            except Exception:  # Still flush the others.
                _log.exception("what came for %r could not be begun", to_flush)

    # --- other messages ----------------------------------------------------------------------------------------------

    def _on_hello(self, client: ClientConnection, hello: Hello) -> None:
        self.connections.on_hello(client, hello)

    def _on_cancel(self, client: ClientConnection, cancel: Cancel) -> None:
        call = client.calls.get(cancel.id)
        if call is not None:
            self._stop(call, "its caller gave it up")

    def _stop(self, call: IncomingCall, why: str, is_told: bool = False) -> None:
        """End a running call. With `is_told`, its caller gets an error."""
        worker = call.worker
        if is_told:
            call.refuse("cancelled", why)
        call.close()
        try:
            if worker is not None:
                call.served.cancel(worker, why)
        except Exception:
            _log.exception("a call of %s.%s could not be cancelled", call.served.name, plain(call.method))

    def _on_ping(self, client: ClientConnection, ping: Ping) -> None:
        self.send(client, envelope.encode(Pong(ping.token)))

    def _on_pong(self, client: ClientConnection, pong: Pong) -> None:
        if client.window.answered(pong.token) and client.send_queue:
            self.sender.send_queued(client)
        self.draining.on_pong(client, pong.token)

    def _on_bye(self, client: ClientConnection, bye: Bye) -> None:
        self.draining.on_bye(client, bye)

    def _ignore(self, client: ClientConnection, message: Error) -> None:
        """An ERROR about a message that was sent to the client needs no answer."""

    # --- the end -----------------------------------------------------------------------------------------------------

    def on_client_end(self, client: ClientConnection) -> None:
        """The client is gone or given up: stop its calls."""
        self.draining.remove(client)
        for call in list(client.calls.values()):
            self._stop(call, "its caller is gone")
        if self._on_disconnected is not None:
            self._on_disconnected(client)

    def close(self) -> None:
        """Close the socket. Answers that were given are still sent."""
        if not self._closed:
            self._closed = True
            self.connections.close()
            self._router.close()
            self.unwatch()

    def measure(self) -> Iterator[Measure]:
        """Measures: connected nodes, and the bytes that wait for them."""
        clients = self._router.clients.values()
        yield Measure("clients", len(clients), {})
        yield Measure("send_queue_bytes", sum(client.send_queue.bytes for client in clients), {})
