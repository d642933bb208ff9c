"""The headers of an event: the context of the worker that dispatched it. Also encodes the event's data.

Internal. Services use `zmqservices.events`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from zmqservices import constants
from zmqservices.wire.serializers import Serializer
from zmqservices.worker_context import WorkerContext


class WithWorkerHeaders:
    """The base of objects with which a worker dispatches events: makes the headers of these events.

    The headers are a copy of the worker's context data from the time when this object is made, and the ids of the calls that led
    to the worker. They are made for the first event, because most workers dispatch none.
    """

    __slots__ = ("_worker_ctx", "_data", "_made")

    def __init__(self, worker_ctx: WorkerContext) -> None:
        self._worker_ctx: WorkerContext | None = worker_ctx
        self._data: Mapping[str, Any] = worker_ctx.data.copy()
        self._made: dict[str, Any] | None = None

    def _headers(self) -> dict[str, Any]:
        """The headers. A value of None is left out, with a warning that names the caller's caller."""
        made = self._made
        if made is None:
            made = {}
            for key, value in self._data.items():
                if value is None:
                    warnings.warn(f"context data {key!r} is None and is not sent with events", UserWarning, stacklevel=3)
                else:
                    made[key] = value
            if self._worker_ctx is not None:
                made[constants.CALL_ID_STACK_CONTEXT_KEY] = self._worker_ctx.call_id_stack
            self._made = made
            self._worker_ctx = None  # Not needed any more, and a service may hold this object for long.
        return made


def encoded(serializer: Serializer | None, data: object) -> tuple[Any, str | None]:
    """The encoded data, and the name of the serializer.

    Without a serializer, the data is returned unchanged and the name is None: the wire's own format will be used.
    """
    if serializer is None:
        return data, None
    return serializer.dumps(data), serializer.name
