"""Payload frames: a large bytes value of a message travels in a frame of its own, and a placeholder in its place in the body.

Rule 1: a message has one payload frame at most: a large argument of a CALL, or the field in PLACES of another kind.
Rule 2: a frame that comes for anything but exactly one allowed placeholder is a ProtocolError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zmqservices.exceptions import ProtocolError
from zmqservices.wire import codec, shapes
from zmqservices.wire.codec import PLACEHOLDER
from zmqservices.wire.messages import Call, Event, Message, Result, Stream

#: A bytes value of this size or more is sent in a separate frame, which is cheaper than copying it.
LARGE = 48 * 1024

#: The field of each kind of message that a payload frame may carry. In a Call it may also be an argument: see `_put_in_call`.
PLACES: dict[type, int] = {
    cls: shapes.NAMES[cls].index(name) for cls, name in ((Result, "value"), (Stream, "chunk"), (Event, "body"))
}


class PayloadMissing(ProtocolError):
    """The body announces a payload frame, and none was given. Decode the body again together with the next frame."""


# --- writing -----------------------------------------------------------------------------------------------


def parted(value: object) -> tuple[Any, bytes | None]:
    """The value for the body, and the payload: the placeholder and the value if that is large, else the value and None."""
    if type(value) is bytes and len(value) >= LARGE:
        return PLACEHOLDER, value
    return value, None


def without(payload: bytes, args: list[Any], kwargs: dict[str, Any] | None) -> tuple[list[Any], Any]:
    """The arguments, with the placeholder in place of the first occurrence of this bytes object."""
    for index, value in enumerate(args):
        if value is payload:
            return [*args[:index], PLACEHOLDER, *args[index + 1 :]], kwargs
    keywords = kwargs or {}
    keyword = next(key for key, value in keywords.items() if value is payload)
    return args, {**keywords, keyword: PLACEHOLDER}


# --- reading -----------------------------------------------------------------------------------------------


def _payload_is_missing(raw: bytes) -> Any:
    raise PayloadMissing("the body announces a payload frame, and none follows")


#: Reads the extensions of a body that came without a payload frame.
HOOK_ALONE = codec.make_hook(0, _payload_is_missing)


class Payloads:
    """Fetches the payload frames of one socket's messages. Each is fetched while the body that announces it is decoded.

        payloads = Payloads(link.take_payload)
        message = decode(body, payloads=payloads)
        if payloads.fetched is not None:
            size += payloads.settle(message)

    `take` returns the frame that follows the body, or None if no frame follows.
    """

    __slots__ = ("_take", "hook", "fetched", "_places")

    def __init__(self, take: Callable[[], bytes | None]) -> None:
        self._take = take
        self.hook = codec.make_hook(0, self._on_payload)
        #: The frame that was fetched for the last body. `settle` must take it before another body is decoded.
        self.fetched: bytes | None = None
        self._places = 0

    def _on_payload(self, raw: bytes) -> Any:
        if self.fetched is None:
            self.fetched = self._take()
            if self.fetched is None:
                _payload_is_missing(raw)
        # `settle` refuses a body with two placeholders, or with one that is not empty.
        self._places += 1 if raw == b"" else 2
        return self.fetched

    def begin_again(self) -> None:
        """Called before a body is decoded a second time: forget its placeholders."""
        self._places = 0

    def drop(self) -> None:
        """Forget the fetched frame."""
        self.fetched = None
        self._places = 0

    def settle(self, message: Message) -> int:
        """The size of the frame in bytes; the frame is forgotten. To be called with each decoded message for which a frame came.

        Raises ProtocolError unless the message has exactly one allowed place for the frame.
        """
        payload, places = self.fetched, self._places
        self.drop()
        if payload is None or places != 1 or not _is_in_place(message, payload):
            raise ProtocolError("a payload frame came, and the body has not one place for it")
        return len(payload)


def _is_in_place(message: Message, payload: bytes) -> bool:
    if isinstance(message, Call):
        return (
            message.args is payload
            or any(value is payload for value in message.args)
            or any(value is payload for value in (message.kwargs or {}).values())
        )
    place = PLACES.get(type(message))
    return place is not None and getattr(message, shapes.NAMES[type(message)][place]) is payload


def put(message: Message, payload: Any) -> bool:
    """Put the payload, anything with a buffer, in place of the placeholder. Returns False if that is in no allowed place.

    Raises ProtocolError for a payload without a buffer.
    """
    if type(payload) is not bytes:
        payload = _bytes_of(payload)
    if isinstance(message, Call):
        return _put_in_call(message, payload)
    place = PLACES.get(type(message))
    if place is None:
        return False
    name = shapes.NAMES[type(message)][place]
    if getattr(message, name) is not PLACEHOLDER:
        return False
    setattr(message, name, payload)
    return True


def _put_in_call(call: Call, payload: bytes) -> bool:
    if call.args is PLACEHOLDER:
        call.args = payload
        return True
    for index, value in enumerate(call.args):
        if value is PLACEHOLDER:
            call.args[index] = payload
            return True
    for key, value in (call.kwargs or {}).items():
        if value is PLACEHOLDER:
            call.kwargs = {**(call.kwargs or {}), key: payload}
            return True
    return False


def _bytes_of(payload: Any) -> bytes:
    try:
        return bytes(memoryview(payload))
    except (TypeError, ValueError) as exc:
        raise ProtocolError(f"a payload frame without bytes: {exc}") from exc
