"""The messages of a WebSocket in the format of Nameko's clients: each is one JSON object.

Internal. Services use `zmqservices.web.websocket`.

    a call      {"method": "add", "data": {"a": 2, "b": 3}, "correlation_id": "any"}
    its result  {"type": "result", "success": true, "data": 5, "correlation_id": "any"}
    its error   {"type": "result", "success": false, "error": {"exc_type": ..., "value": ...}, "correlation_id": "any"}
    an event    {"type": "event", "event": "connected", "data": {"socket_id": "..."}}

Rule 1: pure. Texts go in, texts come out.
Rule 2: reading any message of a client raises MalformedRequest or nothing.
Rule 3: the message for an error can always be made, because nothing else could be sent instead.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from zmqservices.exceptions import BadRequest, MalformedRequest, RemoteUnavailable, UnserializableValueError, serialize
from zmqservices.web import jsontext
from zmqservices.web.results import Expected

#: The first event of every connection.
CONNECTED = "connected"
#: The most characters of an error text for a client's own mistake, which may quote what the client sent.
LONGEST = 1000


class WebSocketCall(NamedTuple):
    """Please run `method` with `data` as keyword arguments, and name `correlation_id` in the answer."""

    method: str
    data: dict[str, Any]
    correlation_id: Any


class BadCall(MalformedRequest):
    """A message is no call. `correlation_id` is the message's, if it could be read."""

    correlation_id: Any = None


def read_call(text: str) -> WebSocketCall:
    """The call in a message. Raises BadCall, which has the correlation id."""
    try:
        message = jsontext.loads(text, parse_constant=jsontext.no_constant)
    except ValueError as exc:
        raise BadCall(f"a message has to be JSON: {exc}") from None
    if not isinstance(message, dict):
        raise BadCall("a message has to be an object with `method`, `data` and `correlation_id`")
    method, data, correlation_id = message.get("method"), message.get("data"), message.get("correlation_id")
    if not isinstance(method, str):
        raise _bad(correlation_id, "`method` has to be a text")
    if not isinstance(data, (dict, type(None))):
        raise _bad(correlation_id, "`data` has to be an object")
    return WebSocketCall(method, data or {}, correlation_id)


def _bad(correlation_id: object, text: str) -> BadCall:
    bad = BadCall(text)
    bad.correlation_id = correlation_id
    return bad


def result(data: object, correlation_id: object) -> str:
    """The message for the result of a method. Raises UnserializableValueError."""
    return _dump({"type": "result", "success": True, "data": data, "correlation_id": correlation_id}, data)


def error(exc: BaseException, expected: Expected, correlation_id: object) -> str:
    """The message for an error. It has only the class of an error that is not the client's own mistake. Never raises."""
    try:
        return _describe(exc, expected, correlation_id)
    except Exception:
        described = {"exc_type": type(exc).__name__, "exc_path": "", "exc_args": [], "value": "internal error"}
        message = {"type": "result", "success": False, "error": described, "correlation_id": correlation_id}
        try:
            return _dump(message, None)
        except Exception:
            return _dump({**message, "correlation_id": None}, None)


def refusal(exc: BaseException, correlation_id: object) -> str:
    """The message for a call that never began. Quotations of the call are cut. Never raises."""
    try:
        if any(isinstance(argument, str) and len(argument) > LONGEST for argument in exc.args):
            short = type(exc).__new__(type(exc))
            short.args = tuple(argument[:LONGEST] if isinstance(argument, str) else argument for argument in exc.args)
            exc = short
    except Exception:
        exc = MalformedRequest("the call could not be begun")
    return error(exc, (), correlation_id)


def _describe(exc: BaseException, expected: Expected, correlation_id: object) -> str:
    described = serialize(exc)
    if isinstance(exc, BadCall):
        described.update(serialize(MalformedRequest(*exc.args)))
    if not isinstance(exc, (BadRequest, RemoteUnavailable)) and not isinstance(exc, expected):
        described.update(value="internal error", exc_args=[], exc_path="")
    return _dump({"type": "result", "success": False, "error": described, "correlation_id": correlation_id}, described)


def event(name: str, data: object) -> str:
    """The message for an event. Raises UnserializableValueError."""
    return _dump({"type": "event", "event": name, "data": data}, data)


def _dump(message: dict[str, Any], value: object) -> str:
    try:
        return json.dumps(message, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise UnserializableValueError(value) from exc
