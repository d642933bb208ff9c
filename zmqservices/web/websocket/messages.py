"""What travels over a WebSocket, as Nameko's clients know it: JSON objects, one for each message.

    a call      {"method": "add", "data": {"a": 2, "b": 3}, "correlation_id": "any"}
    its result  {"type": "result", "success": true, "data": 5, "correlation_id": "any"}
    its error   {"type": "result", "success": false, "error": {"exc_type": ..., "value": ...}, "correlation_id": "any"}
    an event    {"type": "event", "event": "connected", "data": {"socket_id": "..."}}

Rule 1: pure; texts in, texts out.
Rule 2: whatever a client sends, reading it raises MalformedRequest or nothing.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from zmqservices.exceptions import BadRequest, MalformedRequest, RemoteUnavailable, UnserializableValueError, serialize

#: The event that every connection begins with.
CONNECTED = "connected"


class Call(NamedTuple):
    """Please run `method` with `data` as keyword arguments, and name `correlation_id` in the answer."""

    method: str
    data: dict[str, Any]
    correlation_id: Any


class BadCall(MalformedRequest):
    """A message is no call; `correlation_id` is what it said, where that could be read."""

    correlation_id: Any = None


def read_call(text: str) -> Call:
    """The call in a message. Raises MalformedRequest, as the subclass that knows the correlation id."""
    try:
        message = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as exc:
        raise BadCall(f"a message has to be JSON: {exc}") from None
    if not isinstance(message, dict):
        raise BadCall("a message has to be an object with `method`, `data` and `correlation_id`")
    method, data, correlation_id = message.get("method"), message.get("data"), message.get("correlation_id")
    if not isinstance(method, str):
        raise _bad(correlation_id, "`method` has to be a text")
    if not isinstance(data, (dict, type(None))):
        raise _bad(correlation_id, "`data` has to be an object")
    return Call(method, data or {}, correlation_id)


def _bad(correlation_id: Any, text: str) -> BadCall:
    bad = BadCall(text)
    bad.correlation_id = correlation_id
    return bad


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def result(data: Any, correlation_id: Any) -> str:
    """The message for what a method returned. Raises UnserializableValueError."""
    return _dump({"type": "result", "success": True, "data": data, "correlation_id": correlation_id}, data)


def error(exc: BaseException, expected: Any, correlation_id: Any) -> str:
    """The message for an error. One that is not the client's own mistake tells its class and nothing else."""
    described = serialize(exc)
    if isinstance(exc, BadCall):
        described.update(serialize(MalformedRequest(*exc.args)))
    if not isinstance(exc, (BadRequest, RemoteUnavailable)) and not isinstance(exc, expected):
        described.update(value="internal error", exc_args=[], exc_path="")
    return _dump({"type": "result", "success": False, "error": described, "correlation_id": correlation_id}, described)


def event(name: str, data: Any) -> str:
    """The message for an event. Raises UnserializableValueError."""
    return _dump({"type": "event", "event": name, "data": data}, data)


def _dump(message: dict[str, Any], value: Any) -> str:
    try:
        return json.dumps(message, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise UnserializableValueError(value) from exc
