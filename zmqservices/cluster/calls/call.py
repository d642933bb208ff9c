"""One call in flight, on the client side."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from zmqservices.cluster.calls.send_queue import size_of
from zmqservices.exceptions import MessageTooLarge, deserialize
from zmqservices.transport.reactor import Completion
from zmqservices.wire.envelope import Frames, encode_call
from zmqservices.wire.headers import HeaderLimits
from zmqservices.wire.serializers import Serializer

#: The stages of a call.
HELD, SENT, DONE = 0, 1, 2


class CallHistory:
    """The part of a call that few calls need: earlier attempts, the key, and the second attempt (hedging)."""

    __slots__ = ("key", "avoid", "moves", "lost", "hedge")

    def __init__(self, key: bytes | None = None) -> None:
        #: The key that decides which instance is asked; None if the load decides.
        self.key = key
        #: The instances that were asked without success.
        self.avoid: tuple[Any, ...] = ()
        #: How often the call was made again.
        self.moves = 0
        #: The last instance whose link was lost with the call in flight. The call may have run there.
        self.lost: Any = None
        #: The `Hedge` that a call and its second attempt share; None if the call may not be hedged.
        self.hedge: Any = None


class PendingCall(Completion):
    """Please run `method` of `service`, and answer before `deadline` (monotonic seconds; None for no limit).

    HELD: the call waits for an instance. SENT: an instance has it. DONE: it has a `value` or an `error`.
    """

    __slots__ = (
        "id", "pool", "method", "args", "kwargs", "headers", "serializer", "timeout", "deadline",
        "instance", "history", "began_at", "sent_at", "ahead", "held_until", "value", "error",
    )  # fmt: skip

    #: The time when the call was made; 0 once probes were told of its end. Set only if probes listen.
    began_at: float
    #: Set when the call is sent: the time, and the number of calls that its instance had in flight then.
    sent_at: float
    ahead: int

    def __init__(
        self,
        id: int,
        pool: Any,
        method: str,
        args: Sequence[Any],
        kwargs: dict[str, Any] | None,
        headers: dict[str, Any] | None,
        serializer: Serializer | None,
        timeout: float | None,
        deadline: float | None,
    ) -> None:
        self.stage = HELD
        self.awaited = 0
        self.waiter = None
        self.id = id
        #: The ServicePool of its service.
        self.pool = pool
        self.method = method
        self.args = args
        self.kwargs = kwargs
        self.headers = headers
        self.serializer = serializer
        self.timeout = timeout
        self.deadline = deadline
        self.instance: Any = None
        self.held_until = 0.0
        #: None for a call that needs none.
        self.history: CallHistory | None = None
        self.value: Any = None
        #: None, an exception, or the mapping by which a service describes one.
        self.error: BaseException | Mapping[str, Any] | None = None

    @property
    def moves(self) -> int:
        """How often the call was made again at another instance."""
        return 0 if self.history is None else self.history.moves

    @property
    def service(self) -> str:
        name: str = self.pool.service
        return name

    def outcome(self) -> Any:
        """The value of a call that is DONE. If the call failed, raises a new exception each time."""
        error = self.error
        if error is None:
            return self.value
        if isinstance(error, BaseException):
            raise copy.copy(error)
        raise deserialize(error)


class CallLimits:
    """How large a call, and its headers, may be. `unchecked`: bytes of a call that need no closer look."""

    __slots__ = ("max_message_size", "headers", "unchecked")

    def __init__(self, max_message_size: int, headers: HeaderLimits) -> None:
        self.max_message_size = max_message_size
        self.headers = headers
        self.unchecked = min(max_message_size, headers.unchecked)

    def check(self, call: PendingCall, frames: Frames, size: int) -> None:
        """Raises MessageTooLarge. `size`: the bytes of all frames."""
        if size > self.max_message_size:
            raise MessageTooLarge(
                f"the arguments of {call.service}.{call.method} take {size:,} bytes; max_message_size is "
                f"{self.max_message_size:,}"
            )
        within = size if isinstance(frames, bytes) else len(frames[0])
        if within > self.headers.unchecked and not self.headers.fit(call.headers, within):
            self.headers.check(call.headers, "the call", f"{call.service}.{call.method}")


def encode(call: PendingCall, now: float, limits: CallLimits) -> Frames:
    """The frames to send. Raises UnserializableValueError, or MessageTooLarge beyond `limits`."""
    deadline = call.deadline
    time_left = None if deadline is None else deadline - now
    args, kwargs, name = call.args, call.kwargs, None
    if call.serializer is not None:
        name = call.serializer.name
        args, kwargs = call.serializer.dumps([list(args), kwargs or {}]), None
    frames = encode_call(call.id, call.pool.service, call.method, args, kwargs, time_left, call.headers, name)
    size = len(frames) if type(frames) is bytes else size_of(frames)
    if size > limits.unchecked:
        limits.check(call, frames, size)
    return frames


class CallSender(Protocol):
    """Sends calls and ends them; a Caller."""

    def send(self, call: PendingCall, instance: Any, now: float, may_be_held: bool = True) -> bool:
        """Send the call to this instance. Returns False if its peer has no room.

        Raises UnserializableValueError or MessageTooLarge, without sending anything.
        """

    def finish(self, call: PendingCall, error: BaseException | Mapping[str, Any]) -> None:
        """End the call with this error. Its caller is woken at the end of the turn."""

    def advanced(self, call: PendingCall) -> None:
        """The call has reached another stage. Its caller is woken at the end of the turn."""
