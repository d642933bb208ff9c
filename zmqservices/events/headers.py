"""What travels with an event besides its data: the context of the worker that dispatched it, and the serializer's name.

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
    """Base of the objects with which a worker dispatches events: it makes the headers of these events.

    They are the worker's context data, copied when this object is made, and the ids of the calls that led to the worker. They
    are put together for the first event, since most workers dispatch none.
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
            self._worker_ctx = None  # A service may hold this object for long; the worker's context is not needed any more.
        return made


def encoded(serializer: Serializer | None, data: object) -> tuple[Any, str | None]:
    """The data as it is handed on, and the name of the serializer that made bytes of it.

    Without a serializer the data is handed on as it is, and the name is None: the wire's own format is used.
    """
    if serializer is None:
        return data, None
    return serializer.dumps(data), serializer.name
