"""The objects of the server side of calls: connected nodes, served instances, and open calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized
from typing import Any, Protocol

from gevent.event import Event

from discovery.faults import FaultCount
from discovery.security.list_exchange import ListExchange
from zmqservices.cluster.calls.flow_control import FlowControlWindow, InFlightTotal
from zmqservices.cluster.calls.identity import Identity
from zmqservices.cluster.calls.refusals import refusal, shortened
from zmqservices.cluster.calls.send_queue import QueuedTotal, SendQueue, size_of
from zmqservices.exceptions import MessageTooLarge, UnserializableValueError
from zmqservices.wire import envelope
from zmqservices.wire.envelope import Frames, encode_result, encode_result_and_waiting
from zmqservices.wire.messages import Call, Error
from zmqservices.wire.quoting import plain


class ClientConnection:
    """One connected node."""

    __slots__ = (
        "routing_id", "address", "key", "identity", "node", "calls", "window", "send_queue", "awaited", "has_late_answers",
        "asks_records", "reads_waiting", "faults", "lists",
    )  # fmt: skip

    def __init__(
        self,
        routing_id: bytes,
        in_flight: InFlightTotal | None = None,
        queued: QueuedTotal | None = None,
        address: str = "?",
        key: bytes = b"",
    ) -> None:
        self.routing_id = routing_id
        #: The public key that the node has proven. Its identity follows from its HELLO; None before that, and without SECURITY.
        self.key = key
        self.identity: Identity | None = None
        #: The host from which the node is connected.
        self.address = address
        #: The node's id, from its HELLO; "" before that.
        self.node = ""
        #: The node's open calls by id.
        self.calls: dict[int, IncomingCall] = {}
        self.window = FlowControlWindow(in_flight)
        self.send_queue = SendQueue(queued)
        #: What a drain still waits for: names of services whose BYE the node has not answered, and tokens of last PINGs.
        self.awaited: set[str | int] = set()
        #: Whether answers were sent to the node after the BYE of their service. Then its own BYE does not show that it has read
        #: them.
        self.has_late_answers = False
        #: Whether its HELLO asked for the records of this node's instances.
        self.asks_records = False
        #: Passes lists of revoked certificates on over this connection; None unless the HELLO asked for that.
        self.lists: ListExchange | None = None
        #: Whether its HELLO asked for the number of waiting calls.
        self.reads_waiting = False
        #: Made with its first faulty message.
        self.faults: FaultCount | None = None

    def __str__(self) -> str:
        if self.identity is not None:
            return f"{plain(self.identity.name)}, node {self.node} at {self.address}"
        return f"node {self.node} at {self.address}" if self.node else f"a peer at {self.address}"


class ReplyTarget(Protocol):
    """Sends the answers of calls; a ReplySender."""

    #: The most bytes of an answer.
    max_message_size: int

    def send(self, client: ClientConnection, frames: Frames) -> None: ...


class IncomingCall(Call):
    """A CALL that must be answered once, by `reply` or `fail`. After either, and after `close`, nothing more is sent."""

    __slots__ = ("sender", "client", "served", "deadline", "size", "worker", "is_open")

    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def arrive(
        self, sender: ReplyTarget, client: ClientConnection, served: Served, deadline: float | None, size: int
    ) -> None:
        """Open the call, which came from `client` with `size` bytes, before `served` takes it."""
        self.sender = sender
        self.client = client
        self.served = served
        #: The deadline in this process's monotonic seconds; None for no limit.
        self.deadline = deadline
        self.size = size
        #: Set by the service's `take`, and passed to its `cancel`.
        self.worker: Any = None
        self.is_open = True
        client.calls[self.id] = self
        served.open_calls += 1

    @property
    def peer(self) -> str | None:
        """The name in the caller's certificate; None without SECURITY."""
        return None if self.client.identity is None else self.client.identity.name

    def reply(self, value: object, serializer: str | None = None) -> None:
        """Send the result. Raises UnserializableValueError or MessageTooLarge, and then leaves the call open."""
        # Only if calls of other clients wait, because a client knows its own. So a single client has no more to read.
        if len(self.served.queue) > len(self.client.calls) and self.client.reads_waiting:
            frames = encode_result_and_waiting(self.id, value, serializer, len(self.served.queue))
        else:
            frames = encode_result(self.id, value, serializer)
        size = len(frames) if type(frames) is bytes else size_of(frames)
        if size > self.sender.max_message_size:
            raise MessageTooLarge(
                f"the result of {self.served.name}.{self.method} takes {size:,} bytes; "
                f"max_message_size is {self.sender.max_message_size:,}"
            )
        if self.is_open:
            self._answer(frames)

    def fail(self, error: dict[str, Any]) -> None:
        """Send an error that `zmqservices.exceptions.serialize` made."""
        try:
            frames = envelope.encode(Error(self.id, error))
            if len(frames) > self.sender.max_message_size:
                frames = envelope.encode(Error(self.id, shortened(error)))
        except UnserializableValueError:
            frames = envelope.encode(Error(self.id, shortened(error)))
        if self.is_open:
            self._answer(frames)

    def refuse(self, code: str, value: str) -> None:
        """Send an error whose code says that the call did not run."""
        self.fail(refusal(code, value))

    def _answer(self, frames: Frames) -> None:
        self._end()
        if self.served.is_draining:
            self.client.has_late_answers = True
        self.sender.send(self.client, frames)

    def close(self) -> None:
        """End the call without an answer."""
        if self.is_open:
            self._end()

    def _end(self) -> None:
        self.is_open = False
        # The worker refers to the call. This breaks the cycle, which would keep both and all arguments until the next garbage
        # collection.
        self.worker = None
        del self.client.calls[self.id]
        served = self.served
        served.open_calls -= 1
        if served.is_draining and not served.open_calls:
            served.idle.set()


class Served:
    """One instance of a service that this node serves."""

    __slots__ = ("name", "instance", "take", "flush", "cancel", "idempotent", "queue", "open_calls", "is_draining", "idle")

    def __init__(
        self,
        name: str,
        instance: str,
        take: Callable[[IncomingCall], None],
        flush: Callable[[], None],
        cancel: Callable[[Any, str], None],
        idempotent: Iterable[str],
        queue: Sized = (),
    ) -> None:
        self.name = name
        #: The id of the instance.
        self.instance = instance
        self.take = take
        self.flush = flush
        self.cancel = cancel
        #: The names of methods that may be repeated.
        self.idempotent = sorted(idempotent)
        #: The calls that wait for a worker.
        self.queue = queue
        self.open_calls = 0
        self.is_draining = False
        #: Set when the last open call of a draining instance ends.
        self.idle = Event()
