"""What stands before a desk: the nodes that are connected, the services that are served, and the calls under way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from gevent.event import Event

from zmqservices.cluster.calls.flow_control import FlowControlWindow, Total
from zmqservices.cluster.calls.send_queue import Kept, SendQueue, size_of
from zmqservices.exceptions import MessageTooLarge, UnserializableValueError
from zmqservices.wire import envelope
from zmqservices.wire.envelope import encode_result
from zmqservices.wire.messages import Call, Error

#: Characters that are kept of each text of an error that is larger than a message may be.
LONGEST_ERROR_TEXT = 10_000


class ClientConnection:
    """One connected node."""

    __slots__ = ("routing_id", "address", "node", "calls", "window", "send_queue", "awaited", "has_late_answers")

    def __init__(
        self, routing_id: bytes, on_the_way: Total | None = None, kept: Kept | None = None, address: str = "?"
    ) -> None:
        self.routing_id = routing_id
        #: The host that it connects from.
        self.address = address
        #: The id that it gave in its HELLO; "" before that.
        self.node = ""
        self.calls: dict[int, IncomingCall] = {}
        self.window = FlowControlWindow(on_the_way)
        self.send_queue = SendQueue(kept)
        #: Services to whose BYE no answer came yet, and tokens of last PINGs.
        self.awaited: set[str | int] = set()
        #: Answers went to it after the BYE of their service: its own BYE does not say that it has read them.
        self.has_late_answers = False

    def __str__(self) -> str:
        return f"node {self.node} at {self.address}" if self.node else f"a peer at {self.address}"


class IncomingCall(Call):
    """A CALL to be answered once, by `reply` or `fail`; after either, and after `close`, nothing more is sent."""

    __slots__ = ("call_server", "client", "served", "deadline", "size", "worker", "is_open")

    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def arrive(self, call_server: Any, client: ClientConnection, served: Served, deadline: float | None, size: int) -> None:
        """It was read from `client`, takes `size` bytes, and may be run."""
        self.call_server = call_server
        self.client = client
        self.served = served
        #: In this process's monotonic seconds; None for no end.
        self.deadline = deadline
        self.size = size
        #: Whoever runs it, as the service's own `take` left it here; handed to its `cancel`.
        self.worker: Any = None
        self.is_open = True
        client.calls[self.id] = self
        served.open_calls += 1

    def reply(self, value: Any, serializer: str | None = None) -> None:
        """Send the result. Raises UnserializableValueError or MessageTooLarge, and then the call is still open."""
        frames = encode_result(self.id, value, serializer)
        size = len(frames) if type(frames) is bytes else size_of(frames)
        if size > self.call_server.max_message_size:
            raise MessageTooLarge(
                f"the result of {self.served.name}.{self.method} takes {size:,} bytes; "
                f"max_message_size is {self.call_server.max_message_size:,}"
            )
        if self.is_open:
            self._answer(frames)

    def fail(self, error: dict[str, Any]) -> None:
        """Send an error: what `zmqservices.exceptions.serialize` made."""
        try:
            frames = envelope.encode(Error(self.id, error))
            if len(frames) > self.call_server.max_message_size:
                frames = envelope.encode(Error(self.id, _shortened(error)))
        except UnserializableValueError:
            frames = envelope.encode(Error(self.id, _shortened(error)))
        if self.is_open:
            self._answer(frames)

    def refuse(self, code: str, value: str) -> None:
        """Send an error that says by its code that the call did not run."""
        self.fail(refusal(code, value))

    def _answer(self, frames: Any) -> None:
        self._part()
        if self.served.is_draining:
            self.client.has_late_answers = True
        self.call_server.send(self.client, frames)

    def close(self) -> None:
        """Nobody will be answered (any more)."""
        if self.is_open:
            self._part()

    def _part(self) -> None:
        self.is_open = False
        # The worker knows the call: without this the two would live until the garbage collector comes, and with them
        # all that the call brought.
        self.worker = None
        del self.client.calls[self.id]
        served = self.served
        served.open_calls -= 1
        if served.is_draining and not served.open_calls:
            served.idle.set()


class Served:
    """One instance of a service behind the desk."""

    __slots__ = ("name", "instance", "take", "flush", "cancel", "idempotent", "open_calls", "is_draining", "idle")

    def __init__(
        self,
        name: str,
        instance: str,
        take: Callable[[IncomingCall], None],
        flush: Callable[[], None],
        cancel: Callable[[Any, str], None],
        idempotent: Iterable[str],
    ) -> None:
        self.name = name
        self.instance = instance
        self.take = take
        self.flush = flush
        self.cancel = cancel
        self.idempotent = sorted(idempotent)
        self.open_calls = 0
        self.is_draining = False
        self.idle = Event()


def least_busy(instances: list[Served]) -> Served:
    """The instance of a service that takes the next call: of those that do not drain, the one with the fewest under way.

    Of equally busy ones, the one whose turn is longest ago. One that drains where all do.
    """
    chosen = min(instances, key=lambda served: (served.is_draining, served.open_calls))
    instances.remove(chosen)
    instances.append(chosen)
    return chosen


def described(instances: list[Served]) -> dict[str, Any]:
    """What a WELCOME says of a service: its instances that take calls, and the methods that all of them say may be repeated."""
    active = [served for served in instances if not served.is_draining]
    repeatable = set.intersection(*(set(served.idempotent) for served in active or instances))
    return {
        "idempotent": sorted(repeatable),
        "draining": not active,
        "instances": sorted(served.instance for served in active),
    }


def _shortened(error: dict[str, Any]) -> dict[str, Any]:
    """An error that cannot travel as it is, as texts that can: a frame too large would cost the whole link."""
    texts = {key: _short_text(str(value)) for key, value in error.items() if key != "exc_args"}
    return {**texts, "exc_args": []}


def _short_text(text: str) -> str:
    if len(text) > LONGEST_ERROR_TEXT:
        text = f"{text[:LONGEST_ERROR_TEXT]}... ({len(text):,} characters)"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def refusal(code: str, value: str) -> dict[str, Any]:
    exc_type = _REFUSALS.get(code, "ProtocolError")
    return {"exc_type": exc_type, "exc_path": "", "exc_args": [value], "value": value, "code": code}


_REFUSALS = {
    "draining": "Draining",
    "overloaded": "Overloaded",
    "expired": "RpcTimeout",
    "unknown-service": "UnknownService",
    "cancelled": "CallCancelled",
}
