"""One call in flight, on the client side."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from zmqservices.exceptions import deserialize
from zmqservices.transport.reactor import Completion

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
