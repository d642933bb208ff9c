"""The exceptions of this package, each named for what the user can do about it, and how exceptions are sent between processes.

Rule 1: this module imports nothing of the package.
Rule 2: `retryable` on the class says whether the same call may be made again without running twice.
Rule 3: an exception is sent as names and texts (`serialize`). It becomes an instance of its class again only if that class was
registered here (`deserialize_to_instance`). A name that a peer sends is never imported.
"""

from __future__ import annotations

import datetime
import decimal
import inspect
import traceback
import types
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

__all__ = [
    "BadRequest",
    "CallCancelled",
    "CommandError",
    "ConfigurationError",
    "ConnectionNotFound",
    "ContainerBeingKilled",
    "Draining",
    "ExtensionNotFound",
    "Forbidden",
    "ForkedProcessError",
    "GroupConflict",
    "IncorrectSignature",
    "JournalError",
    "JournalFull",
    "MalformedRequest",
    "MaybeExecuted",
    "MessageTooLarge",
    "MethodNotFound",
    "Overloaded",
    "ProtocolError",
    "RemoteError",
    "RemoteTraceback",
    "RemoteUnavailable",
    "RpcTimeout",
    "UnknownService",
    "UnserializableValueError",
    "WorkerCancelled",
    "ZmqServicesError",
    "deserialize",
    "deserialize_to_instance",
    "format_traceback",
    "get_module_path",
    "registry",
    "safe_for_serialization",
    "serialize",
]

ExceptionClass = TypeVar("ExceptionClass", bound=type[BaseException])

#: The exception classes that are rebuilt at the caller, by the module path that is sent.
registry: dict[str, type[BaseException]] = {}


class ZmqServicesError(Exception):
    """The root of all errors of this framework."""

    retryable = False


# --- errors that the programmer or the operator can correct ---------------------------------------------------------------------


class ConfigurationError(ZmqServicesError):
    """A setting or a declaration is wrong. The text quotes the value and says what is needed."""


class CommandError(ZmqServicesError):
    """A command cannot be carried out. Shown as one sentence, without a traceback."""


class ExtensionNotFound(AttributeError):
    """No extension of that name is declared on the service."""


class ContainerBeingKilled(ZmqServicesError):
    """Raised by `spawn_worker` and `submit` once the container's `kill` has begun."""


class ProtocolError(ZmqServicesError):
    """Bytes from a peer are not a message of the protocol. The only error that decoding raises."""


class ForkedProcessError(ZmqServicesError):
    """ZeroMQ sockets of a parent process were used in its fork, where they would lose messages silently."""


class UnserializableValueError(ZmqServicesError):
    """A value cannot be sent, because of its type."""

    def __init__(self, value: object) -> None:
        try:
            self.repr_value = repr(value)
        except Exception:
            self.repr_value = "[__repr__ failed]"
        super().__init__(value)

    def __str__(self) -> str:
        return f"Unserializable value: `{self.repr_value}`"


class MessageTooLarge(ZmqServicesError):
    """A message is larger than `max_message_size`. Raised at the sender, before anything is sent."""


class JournalError(ZmqServicesError):
    """The journal of events cannot do what was asked. The text names the file."""


class GroupConflict(JournalError):
    """A group was declared before with another pattern. The pattern of a group never changes."""


class JournalFull(JournalError):
    """There is no room for an event, within the journal's bounds or on its disk. It was not stored."""

    retryable = True


# --- errors at the caller of a remote method --------------------------------------------------------------------------


class RpcTimeout(ZmqServicesError):
    """The time of the call was over before an answer came. The method may have run."""


class Forbidden(ZmqServicesError):
    """The peer does not allow what this process asked for, and has not done it.

    The text names the asking process and the rule.
    """


class RemoteUnavailable(ZmqServicesError):
    """No instance can answer. The base of the errors below."""

    retryable = True


class UnknownService(RemoteUnavailable):
    """No instance of the service is known, and none appeared while the call waited."""

    def __init__(self, service_name: str, reason: str = "") -> None:
        #: The name of the called service.
        self.service_name = self._service_name = service_name
        self.reason = reason
        super().__init__(service_name)

    def __str__(self) -> str:
        text = f"Unknown service `{self.service_name}`"
        return f"{text}: {self.reason}" if self.reason else text


class Overloaded(RemoteUnavailable):
    """The instance's queue is full. It refused the call and has not run it."""


class Draining(RemoteUnavailable):
    """The instance is shutting down. It refused the call and has not run it."""


class MaybeExecuted(RemoteUnavailable):
    """The link was lost with the call in flight, so the method may or may not have run. Only idempotent methods are repeated."""

    retryable = False


#: Nameko's name for this error.
ReplyQueueExpiredWithPendingReplies = MaybeExecuted


class CallCancelled(ZmqServicesError):
    """The call was cancelled at the service before its method ended."""


class RemoteError(ZmqServicesError):
    """A method raised an exception whose class is not registered here.

    `exc_type` is the name of the remote class, `value` its text. `args` has these two.
    """

    def __init__(self, exc_type: str | None = None, value: object = "") -> None:
        self.exc_type = exc_type
        self.value = value
        super().__init__(f"{exc_type} {value}")


class RemoteTraceback(Exception):
    """The text of the traceback at the service: the `__cause__` of the caller's error."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(text)

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


# --- stopping a worker ----------------------------------------------------------------------------------------------


class WorkerCancelled(BaseException):
    """Raised in a worker whose caller gave up, went away, or ran out of time.

    A BaseException like `gevent.Timeout`, so that `except Exception` in a method does not catch it.
    """


# --- sending exceptions ------------------------------------------------------------------------------------------------


def get_module_path(exc_type: type[BaseException]) -> str:
    """The dotted path under which an exception class is sent."""
    module = inspect.getmodule(exc_type)
    name = module.__name__ if module is not None else exc_type.__module__
    return f"{name}.{exc_type.__name__}"


def deserialize_to_instance(exc_type: ExceptionClass) -> ExceptionClass:
    """Class decorator: callers in this process get instances of this class instead of a `RemoteError`.

    If the class has its own `__init__`, the instance gets `args` and its attributes without a call of `__init__`, which may take
    other arguments. Attributes that cannot be sent arrive as texts. If only the caller has decorated the class, attributes are
    not sent, and `__init__` is called with `args`.
    """
    registry[get_module_path(exc_type)] = exc_type
    return exc_type


@deserialize_to_instance
class BadRequest(ZmqServicesError):
    """The request is wrong. Any instance would refuse it."""


@deserialize_to_instance
class MalformedRequest(BadRequest):
    """The form of the request is wrong."""


@deserialize_to_instance
class MethodNotFound(BadRequest):
    """The service has no such method."""


@deserialize_to_instance
class IncorrectSignature(BadRequest):
    """The arguments do not fit the method's signature."""


class ConnectionNotFound(BadRequest):
    """No WebSocket connection has that id."""


def safe_for_serialization(value: object) -> Any:
    """`value` as texts, mappings and lists of texts, which any serializer can carry. None stays None."""
    if isinstance(value, str):
        return value
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {safe_for_serialization(key): safe_for_serialization(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, (bytes, bytearray)):
        try:
            return [safe_for_serialization(item) for item in value]
        except Exception:
            return "[__iter__ failed]"
    try:
        return str(value)
    except Exception:
        return "[__unicode__ failed]"


def serialize(exc: BaseException, with_traceback: bool = False) -> dict[str, Any]:
    """The mapping that is sent for an exception: `exc_type`, `exc_path`, `exc_args`, `value` (and `traceback`)."""
    error: dict[str, Any] = {
        "exc_type": type(exc).__name__,
        "exc_path": get_module_path(type(exc)),
        "exc_args": [safe_for_serialization(argument) for argument in exc.args],
        "value": _safe_text(exc),
    }
    if registry.get(error["exc_path"]) is type(exc) and _has_own_init(type(exc)):
        error["exc_state"] = {
            name: _plain(value) for name, value in vars(exc).items() if isinstance(name, str) and not _is_dunder(name)
        }
    if with_traceback:
        error["traceback"] = format_traceback(exc)
    return error


def _has_own_init(exc_type: type) -> bool:
    return isinstance(exc_type.__init__, types.FunctionType)  # type: ignore[misc]


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


#: The types of which an attribute of an exception may consist in order to arrive unchanged.
_PLAIN = (
    type(None), bool, float, str, bytes, datetime.datetime, datetime.date, datetime.time, datetime.timedelta,
    decimal.Decimal, uuid.UUID,
)  # fmt: skip
#: The deepest nesting of lists in an attribute. Deeper values become texts.
_DEEPEST = 20


def _plain(value: Any, depth: int = 0) -> Any:
    kind = type(value)
    if kind in _PLAIN or (kind is int and -(2**63) <= value < 2**63):
        return value
    if kind in (list, tuple, set, frozenset) and depth < _DEEPEST:
        return kind(_plain(item, depth + 1) for item in value)
    if kind is dict and depth < _DEEPEST:
        return {_plain(key, depth + 1): _plain(item, depth + 1) for key, item in value.items()}
    # Not looked into, because that would use up an iterator.
    try:
        return str(value)
    except Exception:
        return "[__str__ failed]"


def _safe_text(exc: BaseException) -> Any:
    try:
        return str(exc)
    except Exception:
        return safe_for_serialization(exc)


def format_traceback(exc: BaseException) -> str:
    """The text of the full traceback with causes. If it cannot be formatted, a sentence says so."""
    try:
        return "".join(traceback.format_exception(type(exc), exc, exc.__traceback__))
    except Exception:
        return f"[the traceback of {type(exc).__name__} could not be formatted]\n"


def deserialize(data: Mapping[str, Any]) -> BaseException:
    """The exception in a mapping that `serialize` made: of its own class if that is registered, otherwise a `RemoteError`."""
    exc_type = registry.get(data.get("exc_path") or "")
    exc: BaseException | None = None
    if exc_type is not None:
        try:
            exc = _rebuilt(exc_type, data.get("exc_args") or (), data.get("exc_state"))
        except Exception:
            exc = None
    if exc is None:
        exc = RemoteError(data.get("exc_type"), data.get("value", ""))
    text = data.get("traceback")
    if isinstance(text, str) and text:
        exc.__cause__ = RemoteTraceback(text)
    return exc


def _rebuilt(exc_type: type[BaseException], args: Iterable[Any], state: object) -> BaseException:
    if not isinstance(state, Mapping):
        return exc_type(*args)
    # Its own `__init__` is not called: it may take other arguments, and the attributes are set below.
    exc = exc_type.__new__(exc_type, *args)
    builtin = next(base for base in exc_type.__mro__ if not _has_own_init(base))
    builtin.__init__(exc, *args)  # type: ignore[misc]
    vars(exc).update((name, value) for name, value in state.items() if isinstance(name, str) and not _is_dunder(name))
    return exc
