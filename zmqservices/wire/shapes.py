"""Checks the types of the fields of decoded messages.

Rule 1: the annotations in `messages` declare the types, and CHECKS is made from them.
Rule 2: a check raises ProtocolError and returns nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from zmqservices.exceptions import ProtocolError
from zmqservices.wire.codec import PLACEHOLDER
from zmqservices.wire.messages import KINDS, Call, Error, Event, Message, Result, Welcome

Check = Callable[[Any], None]


def _values_of(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) > 1:
        return attrgetter(*names)  # Several times faster than a loop.
    return lambda message: tuple(getattr(message, name) for name in names)


#: The fields of each message, in the order in which they travel.
NAMES: dict[type[Message], tuple[str, ...]] = {
    cls: tuple(field.name for field in dataclasses.fields(cls)) for cls in KINDS.values()
}
#: For each message, a function that returns the values of its fields, in the order in which they travel.
VALUES: dict[type[Message], Callable[[Any], tuple[Any, ...]]] = {cls: _values_of(names) for cls, names in NAMES.items()}
COUNTS: dict[type[Message], int] = {cls: len(names) for cls, names in NAMES.items()}


def is_count(value: object) -> bool:
    """Whether the value is a whole number from 0 to 2**64 - 1."""
    return type(value) is int and 0 <= value < 2**64


def _is_seconds(value: Any) -> bool:
    # Every comparison with nan is false.
    return type(value) in (float, int) and -1e18 < value < 1e18


def are_texts(values: Any) -> bool:
    """Whether each of the values (of a mapping: each of the keys) is a text."""
    for value in values:
        if type(value) is not str:
            return False
    return True


#: For each declared type, a function that tells whether a value has it.
PREDICATES: dict[str, Callable[[Any], bool]] = {
    "Count": is_count,
    "Seconds": _is_seconds,
    "str": lambda value: type(value) is str,
    "bool": lambda value: type(value) is bool,
    "Map": lambda value: type(value) is dict,
    "list[str]": lambda value: type(value) is list and are_texts(value),
    "list[Any]": lambda value: type(value) is list,
    "list[Count]": lambda value: type(value) is list and all(map(is_count, value)),
    "Any": lambda value: True,
}


def _check_by_fields(cls: type[Message]) -> Check:
    rules = []
    for field in dataclasses.fields(cls):
        declared, _, rest = str(field.type).partition(" | ")
        rules.append((field.name, str(field.type), PREDICATES[declared], rest == "None"))
    values = VALUES[cls]

    def check(message: object) -> None:
        for value, (name, declared, passes, may_be_none) in zip(values(message), rules, strict=True):
            if not (value is None and may_be_none) and not passes(value):
                raise _refusal(message, name, declared)

    return check


def _refusal(message: object, name: str, declared: str) -> ProtocolError:
    came = type(getattr(message, name)).__name__
    return ProtocolError(f"{name} of {type(message).__name__} is a {came}, or out of range; {declared} is needed")


def _check_call(call: Any) -> None:
    _check_call_by_fields(call)
    if call.serializer is not None:
        if (type(call.args) is not bytes and call.args is not PLACEHOLDER) or call.kwargs is not None:
            raise ProtocolError("with a serializer, args of a Call are bytes and kwargs nil")
        return
    if type(call.args) is not list:
        raise _refusal(call, "args", "a list")
    if call.kwargs and not are_texts(call.kwargs):
        raise ProtocolError("the keywords of a Call are texts")


def _check_result(result: Any) -> None:
    _check_result_by_fields(result)
    if result.serializer is not None and type(result.value) is not bytes and result.value is not PLACEHOLDER:
        raise ProtocolError("with a serializer, value of a Result is bytes")


def _check_event(event: Any) -> None:
    _check_event_by_fields(event)
    if event.serializer is not None and type(event.body) is not bytes and event.body is not PLACEHOLDER:
        raise ProtocolError("with a serializer, body of an Event is bytes")


#: The keys of an ERROR's map whose values are texts.
_ERROR_TEXTS = ("code", "exc_type", "exc_path", "traceback")


def _check_error(error: Any) -> None:
    """Replace a malformed map of an ERROR by one that says so, because an ERROR that names a call must always end the call."""
    _check_error_by_fields(error)
    wrong = _fault_of_error(error.error)
    if wrong is not None:
        error.error = {"exc_type": "ProtocolError", "exc_path": "", "exc_args": [wrong], "value": wrong}


def _fault_of_error(details: dict[Any, Any]) -> str | None:
    if not are_texts(details):
        return "the error that came for this call has keys that are no texts"
    for name in _ERROR_TEXTS:
        value = details.get(name)
        if value is not None and type(value) is not str:
            return f"the error that came for this call is malformed: its {name} is a {type(value).__name__}, not a text"
    arguments = details.get("exc_args")
    if arguments is not None and type(arguments) is not list:
        return f"the error that came for this call is malformed: its exc_args are a {type(arguments).__name__}, not a list"
    return None


def _check_welcome(welcome: Any) -> None:
    _check_welcome_by_fields(welcome)
    info = welcome.info
    services = {} if info is None else info.get("services")
    if services is None:
        return
    if type(services) is not dict or not are_texts(services):
        raise ProtocolError("services in the info of a Welcome is a map whose keys are texts")
    for entry in services.values():
        if type(entry) is not dict:
            raise ProtocolError("each of the services in the info of a Welcome is described by a map")
        for name in ("idempotent", "instances"):
            names = entry.get(name)
            if names is not None and not (type(names) is list and are_texts(names)):
                raise ProtocolError(f"{name} of a service in the info of a Welcome is a list of texts")


#: The most characters of a name of a node, namespace, service or group, of an event type, and of a pattern.
LONGEST_NAME = 255


def are_names(*texts: str) -> bool:
    """Whether each text is short enough for a name. Checked where names are kept; the names in a CALL are only looked up."""
    return all(len(text) <= LONGEST_NAME for text in texts)


_check_error_by_fields = _check_by_fields(Error)
_check_welcome_by_fields = _check_by_fields(Welcome)
_check_event_by_fields = _check_by_fields(Event)
_check_call_by_fields = _check_by_fields(Call)
_check_result_by_fields = _check_by_fields(Result)
CHECKS: dict[type[Message], Check] = {
    **{cls: _check_by_fields(cls) for cls in KINDS.values()},
    Call: _check_call,
    Result: _check_result,
    Event: _check_event,
    Error: _check_error,
    Welcome: _check_welcome,
}
