"""What travels with an event besides its data: the context of whoever dispatched it, and the form of the data."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from zmqservices import constants


def with_context(call_id_stack: list[str], data: Mapping[str, Any]) -> dict[str, Any]:
    """Context data as headers, with the ids of the calls that led here. A None is left out, with a warning."""
    headers: dict[str, Any] = {}
    for key, value in data.items():
        if value is None:
            warnings.warn(f"context data {key!r} is None and is not sent with events", UserWarning, stacklevel=3)
        else:
            headers[key] = value
    headers[constants.CALL_ID_STACK_CONTEXT_KEY] = call_id_stack
    return headers


def encoded(serializer: Any, data: Any) -> tuple[Any, str | None]:
    """The data as it is handed on, and the name of the serializer that made bytes of it (None: the wire's own will)."""
    if serializer is None:
        return data, None
    return serializer.dumps(data), serializer.name
