"""What a worker may know of the event that it handles: `worker_ctx.event`."""

from __future__ import annotations

from typing import Any

__all__ = ["ReceivedEvent"]


class ReceivedEvent:
    """One delivery of one event. Several deliveries of an event, and copies that an outbox made of it, have the same `id`."""

    __slots__ = ("_message", "_is_reliable", "outbox_id")

    def __init__(self, message: Any, is_reliable: bool, outbox_id: str | None) -> None:
        self._message = message
        self._is_reliable = is_reliable
        #: What the outbox that it came through calls it; None for one that was dispatched directly.
        self.outbox_id = outbox_id

    @property
    def id(self) -> str | None:
        """What it is known by; None for a best-effort event, which comes once at most and has no name."""
        if self.outbox_id is not None:
            return self.outbox_id
        return f"{self.source}:{self.origin}:{self.seq}" if self._is_reliable else None

    @property
    def origin(self) -> str:
        """The journal that keeps it."""
        return str(self._message.journal)

    @property
    def seq(self) -> int:
        """Its number there."""
        return int(self._message.seq)

    @property
    def source(self) -> str:
        """The service that dispatched it."""
        return str(self._message.source)

    @property
    def type(self) -> str:
        """Its type, where the handler's pattern stands for many."""
        return str(self._message.type)

    @property
    def key(self) -> str | None:
        """The key that it was dispatched with."""
        key: str | None = self._message.key
        return key

    @property
    def attempt(self) -> int:
        """The number of this delivery to the group, from 1."""
        return int(self._message.attempt)

    @property
    def at(self) -> float | None:
        """When it was dispatched, in seconds since 1970."""
        at: float | None = self._message.at
        return at
