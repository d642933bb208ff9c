"""One call in flight, on the client side."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Protocol

from zmqservices.cluster.calls.send_queue import size_of
from zmqservices.exceptions import MessageTooLarge, deserialize
from zmqservices.transport.reactor import Completion
from zmqservices.wire.envelope import Frames, encode_call

#: The stages of a call.
HELD, SENT, DONE = 0, 1, 2


class PendingCall(Completion):
    """Please run `method` of `service`, and answer before `deadline` (monotonic; None for no end).

    HELD: no instance could be asked yet. SENT: an instance has it. DONE: `value` or `error` is there.
    """

    __slots__ = (
        "id", "service", "method", "args", "kwargs", "headers", "serializer", "timeout", "deadline",
        "pool", "instance", "avoid", "moves", "sent_at", "ahead", "held_until", "value", "error",
    )  # fmt: skip

    def __init__(
        self,
        id: int,
        service: str,
        method: str,
        args: Any,
        kwargs: Any,
        headers: dict[str, Any] | None,
        serializer: Any,
        timeout: float | None,
        deadline: float | None,
    ) -> None:
        self.stage = HELD
        self.awaited = 0
        self.waiter = None
        self.id = id
        self.service = service
        self.method = method
        self.args = args
        self.kwargs = kwargs
        self.headers = headers
        self.serializer = serializer
        self.timeout = timeout
        self.deadline = deadline
        self.pool: Any = None
        self.instance: Any = None
        self.sent_at = 0.0
        #: How many calls its instance had in flight when it was sent.
        self.ahead = 0
        self.held_until = 0.0
        self.avoid: tuple[Any, ...] = ()
        self.moves = 0
        self.value: Any = None
        #: None, an exception, or the mapping that a service sent for one.
        self.error: BaseException | Mapping[str, Any] | None = None

    def outcome(self) -> Any:
        """The value of a call that is DONE; raises a new exception each time where it failed."""
        error = self.error
        if error is None:
            return self.value
        if isinstance(error, BaseException):
            raise copy.copy(error)
        raise deserialize(error)


def encode(call: PendingCall, now: float, max_message_size: int) -> Frames:
    """The frames to send. Raises UnserializableValueError, or MessageTooLarge above `max_message_size` bytes."""
    deadline = call.deadline
    time_left = None if deadline is None else deadline - now
    args, kwargs, name = call.args, call.kwargs, None
    if call.serializer is not None:
        name = call.serializer.name
        args, kwargs = call.serializer.dumps([list(args), kwargs or {}]), None
    frames = encode_call(call.id, call.service, call.method, args, kwargs, time_left, call.headers, name)
    size = len(frames) if type(frames) is bytes else size_of(frames)
    if size > max_message_size:
        raise MessageTooLarge(
            f"the arguments of {call.service}.{call.method} take {size:,} bytes; max_message_size is {max_message_size:,}"
        )
    return frames


class CallSender(Protocol):
    """Sends calls and ends them; a Caller."""

    def send(self, call: PendingCall, instance: Any, now: float, may_be_held: bool = True) -> bool:
        """Send the call to this instance; False where its peer has no room.

        Raises UnserializableValueError or MessageTooLarge, and then nothing was sent.
        """

    def finish(self, call: PendingCall, error: BaseException | Mapping[str, Any]) -> None:
        """The call is DONE, with this error. Its caller is woken at the end of the turn."""

    def advanced(self, call: PendingCall) -> None:
        """The call has reached another stage: its caller is woken at the end of the turn."""
