"""The event that a worker handles, as `worker_ctx.event`."""

from __future__ import annotations

from zmqservices.wire.messages import Event

__all__ = ["ReceivedEvent"]


class ReceivedEvent:
    """One delivery of one event. All deliveries of an event, and copies of it that an outbox dispatched, have the same `id`."""

    __slots__ = ("_message", "_is_reliable", "outbox_id")

    def __init__(self, message: Event, is_reliable: bool, outbox_id: str | None) -> None:
        self._message = message
        self._is_reliable = is_reliable
        #: The id that an outbox gave the event; None for an event that was dispatched directly.
        self.outbox_id = outbox_id

    @property
    def id(self) -> str | None:
        """The id of the event; None for a best-effort event, which is delivered at most once and has no id."""
        if self.outbox_id is not None:
            return self.outbox_id
        return f"{self.source}:{self.origin}:{self.seq}" if self._is_reliable else None

    @property
    def origin(self) -> str:
        """The id of the opening of the journal in which the event was appended. `(origin, seq)` is the event's unique name."""
        return str(self._message.origin)

    @property
    def seq(self) -> int:
        """The number of the event in the journal."""
        return int(self._message.seq)

    @property
    def source(self) -> str:
        """The name of the service that dispatched the event."""
        return str(self._message.source)

    @property
    def type(self) -> str:
        """The type of the event; the handler's pattern may match many."""
        return str(self._message.type)

    @property
    def key(self) -> str | None:
        """The key with which the event was dispatched; None without one."""
        key: str | None = self._message.key
        return key

    @property
    def attempt(self) -> int:
        """The number of this delivery to the group, from 1."""
        return int(self._message.attempt)

    @property
    def at(self) -> float | None:
        """The time of the dispatch, in seconds since 1970."""
        at: float | None = self._message.at
        return at
