"""The serving half of RPC: who is connected, and what they asked for.

Runs on a gevent hub. A service is a name and two functions handed in from above: `take(call)`, which must not block, and
`flush()`, called once after everything that had arrived was taken.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable
from functools import partial
from time import monotonic
from typing import Any, Protocol, TypeAlias

from zmqservices.cluster.calls.cork import LARGEST_TOGETHER, LONGEST, Cork
from zmqservices.cluster.calls.drain import Drain
from zmqservices.cluster.calls.flow_control import UNCOUNTED, FlowControlWindow, Total
from zmqservices.cluster.calls.incoming import ClientConnection, IncomingCall, Served, described, least_busy, refusal
from zmqservices.cluster.calls.send_queue import Kept, SendQueue, size_of
from zmqservices.exceptions import ProtocolError
from zmqservices.transport import RouterSocket, Sent, Sockets
from zmqservices.transport.faults import Faults
from zmqservices.transport.reactor import COUNTED_BYTES, DRAIN_QUOTA, Reactor
from zmqservices.transport.router import RouterListener
from zmqservices.wire import batches, envelope
from zmqservices.wire.envelope import Payloads, decode, message_of
from zmqservices.wire.messages import MAJOR, MINOR, Batch, Bye, Call, Cancel, Error, Hello, Ping, Pong, Welcome
from zmqservices.wire.quoting import plain, quoted
from zmqservices.wire.shapes import LONGEST_NAME, is_count

_log = logging.getLogger(__name__)

#: Bytes of a body that is looked at before its sender has said HELLO.
LONGEST_GREETING = 64 * 1024

#: Seconds between two tries to hand on replies that a guest's queue had no room for.
SEND_QUEUE_INTERVAL = 0.01

#: Seconds after the end of a connection at which it is found out whose it was. ZeroMQ tells of the end a moment before
#: it knows itself that nothing more can be sent there; on a busy machine that moment is long.
LOOKS_FOR_GONE = (0.0, 0.05, 0.5, 3.0)

#: Seconds between two tries to tell a node that it was given up.
GIVEN_UP_INTERVAL = 0.1


#: Stands for the instances of a service that has several here. Looks as if it drained, so that a call of any other service is
#: not asked about it.
SHARED = Served("", "", lambda call: None, lambda: None, lambda worker, why: None, ())
SHARED.is_draining = True


class ServerSocket(Protocol):
    """The socket that nodes connect to, as `RouterSocket` is."""

    endpoint: str
    #: The connected nodes, by routing id.
    clients: dict[bytes, ClientConnection]

    def send(self, routing_id: bytes, frames: bytes | tuple[bytes, bytes]) -> Sent: ...

    def take_payload(self) -> bytes | None: ...

    def close(self) -> None: ...


#: Binds a socket to an address; it tells the listener what happens on it.
NewServerSocket: TypeAlias = Callable[[Reactor, Sockets, str, RouterListener], ServerSocket]


class Flushable(Protocol):
    """Something whose `flush` can be asked for; see `CallServer.request_flush`."""

    def flush(self) -> None: ...


class CallServer:
    """The listener of the server socket. Bound once; services come and go. `clock` says monotonic time."""

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
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._node = node
        self._namespace = namespace
        self.max_message_size = max_message_size
        #: The instance of each service; where a service has several here, SHARED, and `_several` has them.
        self._services: dict[str, Served] = {}
        self._several: dict[str, list[Served]] = {}
        #: Whoever wants `flush` to be called once all that had arrived was handed over.
        self._to_flush: set[Flushable] = set()
        self._on_disconnected: Callable[[ClientConnection], None] | None = None
        self._batch_time = 0.0
        #: What counts against DRAIN_QUOTA this turn besides the messages themselves.
        self._batched = 0
        #: The messages since all was last handed over, and whether one of them is worked on alone.
        self._messages = 0
        self._is_alone = False
        #: Holds what is sent while a batch is worked on, or in one turn of the loop.
        self._cork = Cork(self._pour, reactor.defer, clock)
        self._tokens = itertools.count(1)
        self._send_queue_timer = False
        self._looks_for_gone: set[float] = set()
        #: The routing ids of nodes that were given up and have not been told so yet.
        self._given_up: set[bytes] = set()
        self._given_up_timer = False
        self._closed = False
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
        self._on_the_way = Total()
        self._kept = Kept()
        self.draining = Drain(
            self._router.clients, self._instances, self._tokens, self.send, partial(self._stop, is_told=True), self._welcome_all,
            clock,
        )  # fmt: skip

    @property
    def endpoint(self) -> str:
        """What was bound, with its port."""
        return self._router.endpoint

    def serve(
        self,
        name: str,
        instance: str,
        take: Callable[[IncomingCall], None],
        flush: Callable[[], None],
        cancel: Callable[[Any, str], None],
        idempotent: Iterable[str] = (),
    ) -> Served:
        """Calls to `name` go to `take` from now on; `cancel(worker, why)` stops one that is under way.

        `worker` is what `take` left at the call. Where several instances serve `name` here, they share its calls.
        """
        served = Served(name, instance, take, flush, cancel, idempotent)
        self._keep(name, [*self._instances(name), served])
        self._welcome_all()
        return served

    def leave(self, served: Served) -> None:
        """Forget an instance; with the last one of its service, calls to that are refused as unknown."""
        self._keep(served.name, [other for other in self._instances(served.name) if other is not served])

    def _instances(self, name: str) -> list[Served]:
        several = self._several.get(name)
        if several is not None:
            return several
        served = self._services.get(name)
        return [] if served is None else [served]

    def _keep(self, name: str, instances: list[Served]) -> None:
        self._services.pop(name, None)
        self._several.pop(name, None)
        if len(instances) == 1:
            self._services[name] = instances[0]
        elif instances:
            self._services[name] = SHARED
            self._several[name] = instances

    def _welcome_all(self) -> None:
        """Tell everybody which instances there are now."""
        for client in list(self._router.clients.values()):
            if client.node:
                self._welcome(client)

    def handle_also(
        self,
        kinds: dict[type, Callable[[ClientConnection, Any], None]],
        on_disconnected: Callable[[ClientConnection], None],
    ) -> None:
        """Messages of these kinds go to those functions from now on; `on_disconnected` is told of guests that are gone."""
        self._handlers.update(kinds)
        self._on_disconnected = on_disconnected

    def request_flush(self, to_flush: Flushable) -> None:
        """Call `to_flush.flush()` once all that has arrived is heard. For the functions that hear."""
        self._to_flush.add(to_flush)

    # --- the door's listener -----------------------------------------------------------------------------------------

    def on_connect(self, routing_id: bytes, address: str) -> ClientConnection:
        return ClientConnection(routing_id, self._on_the_way, self._kept, address)

    def refuse_routing_id(self, routing_id: bytes, address: str) -> None:
        self._faults.saw(f"a peer at {address}", "it lets ZeroMQ choose its routing id")
        text = "set ROUTING_ID to a byte of value 1 and 16 random ones: ZeroMQ's own choice can be guessed by others"
        self._router.send(routing_id, envelope.encode(Error(None, refusal("protocol", text))))

    def on_message(self, client: ClientConnection, body: bytes) -> bool:
        if not self._batch_time:
            self._batch_time = self._clock()
        self._messages += 1
        try:
            if not client.node:
                self._hear_stranger(client, body)
                return False
            size = len(body)
            payloads = self._payloads
            try:
                message = decode(body, None, IncomingCall, payloads)
                if payloads.fetched is not None:
                    size += payloads.settle(message)
            except ProtocolError as exc:
                self._refuse_junk(client, exc)
                return False
            if type(message) is IncomingCall:
                self._take(client, message, size)
                if size > COUNTED_BYTES:
                    self._batched += size // COUNTED_BYTES
                    return self._batched >= DRAIN_QUOTA
            elif type(message) is Batch:
                return self._take_batch(client, message, size)
            else:
                self._take_other(client, message)
            return False
        except Exception as exc:  # A message that we do not stand costs its sender, and nobody else.
            self._faults.saw(str(client), f"{type(exc).__name__}; it is let go", exc)
            self._give_up(client)
            return False

    def _hear_stranger(self, client: ClientConnection, body: bytes) -> None:
        """Before its HELLO nothing of a peer is heard but that and PING, and nothing long is looked at."""
        try:
            call_id = envelope.call_id_of(body)
            if call_id is not None:
                # By its id, so that a node that we gave up greets again. Nothing else is made of it.
                self._send_refusal(client, call_id, "protocol", "a CALL came before a HELLO")
                return
            if batches.is_batch(body) and len(body) <= LARGEST_TOGETHER:
                self._refuse_all(client, decode(body, None, IncomingCall))
                return
            if len(body) > LONGEST_GREETING:
                raise ProtocolError(f"{len(body):,} bytes came before a HELLO, which takes {LONGEST_GREETING:,} at most")
            message = decode(body, None, IncomingCall)
        except ProtocolError as exc:
            self._faults.saw(str(client), exc)
            self._send_refusal(client, None, "protocol", f"not a message of this protocol: {exc}")
            return
        if type(message) in (Hello, Ping):
            self._take_other(client, message)
        else:
            # A node that we gave up may say so before it learns of that: no refusal, which would end the link for good. But
            # a word, that finds out whether anybody is there.
            self._faults.saw(str(client), f"its {type(message).__name__.upper()} came before a HELLO")
            self.send(client, envelope.encode(Pong(0)))

    def _refuse_all(self, client: ClientConnection, batch: Any) -> None:
        """Refuse the calls of a BATCH that came before a HELLO."""
        for fields in batch.messages:
            if type(fields) is list and len(fields) > 1 and fields[0] == Call.KIND and is_count(fields[1]):
                self._send_refusal(client, fields[1], "protocol", "a CALL came before a HELLO")

    def _take_batch(self, client: ClientConnection, batch: Batch, size: int) -> bool:
        messages = batch.messages
        self._batched += len(messages)
        # What each of them took is not known. In one that is larger than what is sent together, any of them may be all of it.
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
                self._take(client, message, size)
            else:
                self._take_other(client, message)
        return self._batched >= DRAIN_QUOTA

    def _refuse_junk(self, client: ClientConnection, fault: ProtocolError) -> None:
        self._faults.saw(str(client), fault)
        self._send_refusal(client, None, "protocol", f"not a message of this protocol: {fault}")

    def _take_other(self, client: ClientConnection, message: Any) -> None:
        handle = self._handlers.get(type(message))
        if handle is None:
            self._send_refusal(client, None, "protocol", f"{type(message).__name__} is not understood here")
        else:
            handle(client, message)

    def _take(self, client: ClientConnection, call: IncomingCall, size: int) -> None:
        served = self._services.get(call.service)
        if served is None or served.is_draining or call.id in client.calls:
            if served is SHARED:
                served = least_busy(self._several[call.service])
            if served is None or served.is_draining or call.id in client.calls:
                self._turn_away(client, call, served)
                return
        deadline = None
        if call.time_left is not None:
            if call.time_left <= 0:
                self._send_refusal(client, call.id, "expired", "its time was spent before it arrived")
                return
            deadline = self._batch_time + call.time_left
        call.arrive(self, client, served, deadline, size)
        self._to_flush.add(served)
        try:
            served.take(call)
        except Exception as exc:
            _log.exception("a call of %s.%s could not be taken", served.name, plain(call.method))
            call.fail({"exc_type": type(exc).__name__, "exc_path": "", "exc_args": [], "value": str(exc)})

    def on_batch_end(self) -> None:
        try:
            if self._to_flush:
                if self._messages == 1 and not self._batched and not self._cork.is_in:
                    # Its answer has nobody to leave with.
                    self._is_alone = True
                    self._flush_all()
                else:
                    self.together(self._flush_all)
        finally:
            self._is_alone = False
            self._batch_time = 0.0
            self._batched = self._messages = 0

    def _flush_all(self) -> None:
        while self._to_flush:
            to_flush = self._to_flush.pop()
            try:
                to_flush.flush()
            except Exception:  # The others' jobs wait for their own.
                _log.exception("what came for %r could not be begun", to_flush)

    def _turn_away(self, client: ClientConnection, message: Call, served: Served | None) -> None:
        client.has_late_answers = True
        if message.id in client.calls:
            self._send_refusal(client, None, "protocol", f"call id {message.id} is in use already")
        elif served is None:
            self._send_refusal(client, message.id, "unknown-service", f"{quoted(message.service)} is not served here")
        else:
            self._send_refusal(client, message.id, "draining", f"{message.service!r} is shutting down here")

    def _on_hello(self, client: ClientConnection, hello: Hello) -> None:
        if hello.major != MAJOR:
            self._send_refusal(
                client, None, "version", f"version {MAJOR} of the protocol is spoken here, not {hello.major}"
            )
            return
        if hello.namespace != self._namespace:
            wanted = quoted(hello.namespace)
            self._send_refusal(client, None, "protocol", f"this node is in namespace {self._namespace!r}, not {wanted}")
            return
        if len(hello.node) > LONGEST_NAME or not hello.node.isprintable():
            text = f"a node's id has {LONGEST_NAME} printable characters at most; this one is {quoted(hello.node)}"
            self._send_refusal(client, None, "protocol", text)
            return
        if client.node:
            # A new connection took the place of one that was not missed yet, or it was told that we do not know it.
            self._begin_anew(client)
        client.node = hello.node or "?"
        self._given_up.discard(client.routing_id)
        self._welcome(client)

    def _welcome(self, client: ClientConnection) -> None:
        services = {name: described(self._instances(name)) for name in self._services}
        self.send(client, envelope.encode(Welcome(MAJOR, MINOR, self._node, self._namespace, {"services": services})))

    def _on_cancel(self, client: ClientConnection, cancel: Cancel) -> None:
        call = client.calls.get(cancel.id)
        if call is not None:
            self._stop(call, "its caller gave it up")

    def _stop(self, call: IncomingCall, why: str, is_told: bool = False) -> None:
        """End a call that is under way; with `is_told`, its caller gets an error for an answer."""
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
            self._work_off_one(client)
        self.draining.on_pong(client, pong.token)

    def _on_bye(self, client: ClientConnection, bye: Bye) -> None:
        self.draining.on_bye(client, bye)

    def _ignore(self, client: ClientConnection, message: Any) -> None:
        """A word that needs no answer."""

    # --- sending -----------------------------------------------------------------------------------------------------

    def _send_refusal(self, client: ClientConnection, call_id: int | None, code: str, value: str) -> None:
        self.send(client, envelope.encode(Error(call_id, refusal(code, value))))

    def send(self, client: ClientConnection, frames: Any) -> None:
        """Hand on a message, keep it for a while where the guest's queue is full, drop it where the guest is gone."""
        if self._is_alone:
            self._is_alone = False
            self._send(client, frames)
            return
        cork = self._cork
        now = self._clock()
        if cork.is_in or cork.join(now):
            if type(frames) is bytes and len(frames) <= LONGEST and client.node:
                cork.hold((client, frames), now)
                return
            cork.release()
        self._send(client, frames)

    def together(self, work: Callable[..., None], *args: Any) -> None:
        """Call `work(*args)`; what it sends leaves together."""
        if self._cork.is_in:
            work(*args)
            return
        self._cork.begin(self._clock())
        try:
            work(*args)
        finally:
            self._cork.end()

    def _pour(self, messages: list[tuple[ClientConnection, bytes]]) -> None:
        by_client: dict[ClientConnection, list[bytes]] = {}
        for client, body in messages:
            by_client.setdefault(client, []).append(body)
        for client, bodies in by_client.items():
            self._send(client, batches.encode(bodies))

    def _send(self, client: ClientConnection, frames: Any) -> None:
        if not client.send_queue.messages:
            # As `_hand_on` begins; written out, as nearly all that is sent comes by here.
            if type(frames) is bytes and len(frames) <= UNCOUNTED:
                sent = self._router.send(client.routing_id, frames)
            else:
                sent = self._hand_on(client, frames)
            if sent is Sent.TAKEN:
                return
            if sent is Sent.GONE:
                self._forget(client)
                return
        if not client.node:
            return  # Nothing is kept for somebody who never said who he is.
        client.send_queue.add(frames)
        if client.send_queue.is_too_long:
            _log.warning(
                "gave up node %s: it does not read its answers; %s of them wait, with %s bytes",
                client.node, f"{len(client.send_queue):,}", f"{client.send_queue.bytes:,}",
            )  # fmt: skip
            self._give_up(client)
            return
        if self._kept.is_too_much:
            self._give_up_longest()
        if not self._send_queue_timer:
            self._send_queue_timer = True
            self._reactor.call_later(SEND_QUEUE_INTERVAL, self._work_off)

    def _give_up_longest(self) -> None:
        """What is kept for all nodes is too much: the one for which the most is kept is given up."""
        client = max(self._router.clients.values(), key=lambda client: client.send_queue.bytes)
        _log.warning(
            "gave up node %s: of %s bytes of answers that wait for their nodes to read, it has the most, %s",
            client.node, f"{self._kept.bytes:,}", f"{client.send_queue.bytes:,}",
        )  # fmt: skip
        self._give_up(client)

    def _hand_on(self, client: ClientConnection, frames: Any) -> Sent:
        size = size_of(frames)
        if size <= UNCOUNTED:
            return self._router.send(client.routing_id, frames)
        window = client.window
        sent = Sent.FULL
        if not window.is_full:
            sent = self._router.send(client.routing_id, frames)
            if sent is Sent.TAKEN:
                window.sent(size)
        now = self._clock()
        if window.wants_to_ask(now):
            token = next(self._tokens)
            asked = self._router.send(client.routing_id, envelope.encode(Ping(token)))
            if asked is Sent.TAKEN:
                window.asked(token, now)
            elif asked is Sent.GONE:
                return asked
        return sent

    def _work_off(self) -> None:
        self._send_queue_timer = False
        if self._closed:
            return
        for client in [client for client in self._router.clients.values() if client.send_queue]:
            self._work_off_one(client)

    def _work_off_one(self, client: ClientConnection) -> None:
        sent = client.send_queue.hand_on(partial(self._hand_on, client))
        if sent is Sent.GONE:
            self._forget(client)
        elif sent is Sent.FULL and not self._send_queue_timer:
            self._send_queue_timer = True
            self._reactor.call_later(SEND_QUEUE_INTERVAL, self._work_off)

    # --- guests that leave -------------------------------------------------------------------------------------------

    def on_disconnect(self) -> None:
        # ZeroMQ does not say whose connection ended. A word to everybody finds out who cannot be reached any more.
        for seconds in LOOKS_FOR_GONE:
            if seconds not in self._looks_for_gone:
                self._looks_for_gone.add(seconds)
                self._reactor.call_later(seconds, self._find_gone, seconds)

    def _find_gone(self, look: float) -> None:
        self._looks_for_gone.discard(look)
        if self._closed:
            return
        word = envelope.encode(Pong(0))
        for client in list(self._router.clients.values()):
            if self._router.send(client.routing_id, word) is Sent.GONE:
                self._forget(client)

    def _give_up(self, client: ClientConnection) -> None:
        """Forget it, while its connection stands, and tell it so once it has room for that.

        It waits for answers, or for events, that will not come, and may never call again and find out.
        """
        if client.node:
            self._given_up.add(client.routing_id)
            self._tell_given_up_soon()
        self._forget(client)

    def _tell_given_up_soon(self) -> None:
        if self._given_up and not self._given_up_timer:
            self._given_up_timer = True
            self._reactor.call_later(GIVEN_UP_INTERVAL, self._tell_given_up)

    def _tell_given_up(self) -> None:
        self._given_up_timer = False
        if self._closed:
            return
        # About no call: none has this id.
        word = envelope.encode(Error(0, refusal("protocol", "this node was given up here; it has to say HELLO again")))
        self._given_up = {one for one in self._given_up if self._router.send(one, word) is Sent.FULL}
        self._tell_given_up_soon()

    def _forget(self, client: ClientConnection) -> None:
        # Another one may be known by its routing id by now: it was given up, and has said something since.
        if self._router.clients.get(client.routing_id) is client:
            del self._router.clients[client.routing_id]
        self._end(client)
        # What is sent to it in spite of that is nobody's: it counts for no bound that others share.
        client.window, client.send_queue = FlowControlWindow(), SendQueue()

    def _begin_anew(self, client: ClientConnection) -> None:
        """What it asked for before counts no more: for its callers all that was lost with the connection."""
        self._end(client)
        client.window = FlowControlWindow(self._on_the_way)

    def _end(self, client: ClientConnection) -> None:
        client.send_queue.clear()
        client.window.close()
        self.draining.forget(client)
        for call in list(client.calls.values()):
            self._stop(call, "its caller is gone")
        if self._on_disconnected is not None:
            self._on_disconnected(client)

    # --- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Shut the door. Answers that were given still leave."""
        if not self._closed:
            self._cork.release()
            self._work_off()
            self._closed = True
            self._router.close()
