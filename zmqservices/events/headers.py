"""What travels with an event besides its data: the context of whoever dispatched it, and the form of the data.

Internal. Services use `zmqservices.events`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from zmqservices import constants


class FromWorker:
    """Whatever a worker tells of events with: it knows the headers that travel along.

    They are the worker's context data as they were when this was made, and the ids of the calls that led to it. Put together
    when the first event asks for them: most workers have none.
    """

    __slots__ = ("_worker_ctx", "_data", "_made")

    def __init__(self, worker_ctx: Any) -> None:
        self._worker_ctx: Any = worker_ctx
        self._data: Mapping[str, Any] = worker_ctx.data.copy()
        self._made: dict[str, Any] | None = None

    def _headers(self) -> dict[str, Any]:
        """A None is left out, with a warning where the event is told of. To be called by what a worker calls."""
        made = self._made
        if made is None:
            made = {}
            for key, value in self._data.items():
                if value is None:
                    warnings.warn(f"context data {key!r} is None and is not sent with events", UserWarning, stacklevel=3)
                else:
                    made[key] = value
            made[constants.CALL_ID_STACK_CONTEXT_KEY] = self._worker_ctx.call_id_stack
            self._made = made
            self._worker_ctx = None  # Whoever keeps this for long keeps no more than he needs.
        return made


def encoded(serializer: Any, data: Any) -> tuple[Any, str | None]:
    """The data as it is handed on, and the name of the serializer that made bytes of it (None: the wire's own will)."""
    if serializer is None:
        return data, None
    return serializer.dumps(data), serializer.name
