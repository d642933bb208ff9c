"""The messages of etcd's watch, and their encoding in protobuf.

Sources of the rules: etcd's `rpc.proto` and `kv.proto`; "Encoding" at protobuf.dev.

Rule 1: no sockets, no threads, no clock here.
Rule 2: decoding raises ValueError for bytes that are no message of etcd's, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

#: The two kinds of fields that etcd uses.
_VARINT, _BYTES = 0, 2
#: The most bytes of one number.
_LONGEST_VARINT = 10


@dataclass(frozen=True, slots=True)
class Range:
    """The keys from `start` up to and without `end`; only `start` if `end` is empty."""

    start: bytes
    end: bytes = b""


@dataclass(frozen=True, slots=True)
class Event:
    """A key was put or deleted. `revision`: that of the transaction."""

    key: bytes
    value: bytes
    revision: int
    is_deletion: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the watch about one range.

    `is_over`: etcd has ended the watch of this range, for `reason`. `compacted`: it has because it no longer has the changes
    before this revision; 0 otherwise.
    """

    watch: int
    events: list[Event]
    is_over: bool = False
    compacted: int = 0
    reason: str = ""


def encode_create(watch: int, span: Range, revision: int) -> bytes:
    """The request to watch these keys from this revision on (WatchCreateRequest). etcd's answers bear the number `watch`."""
    create = _field(1, span.start) + _field(2, span.end) + _field(3, revision) + _field(7, watch)
    return _field(1, create)


def decode_answer(message: bytes) -> Answer:
    """The answer in a WatchResponse of etcd. ValueError for anything else."""
    fields = list(_fields(message))
    known = {number: value for number, value in fields if number != 11}
    return Answer(
        _signed(known.get(2, 0)),
        [_event(_raw(value)) for number, value in fields if number == 11],
        bool(known.get(4, 0)),
        _signed(known.get(5, 0)),
        _raw(known.get(6, b"")).decode(errors="replace")[:200],
    )


def _event(message: bytes) -> Event:
    event = dict(_fields(message))
    item = dict(_fields(_raw(event.get(2, b""))))
    return Event(_raw(item.get(1, b"")), _raw(item.get(5, b"")), _signed(item.get(3, 0)), event.get(1, 0) == 1)


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _field(number: int, value: bytes | int) -> bytes:
    """The bytes of one field; none for the default value, which protobuf leaves out."""
    if not value:
        return b""
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value)
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Number and value of each field. ValueError for a message that is cut short, or a kind of field that etcd does not use."""
    place = 0
    while place < len(message):
        tag, place = _number(message, place)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, place = _number(message, place)
            yield number, value
        elif kind == _BYTES:
            length, place = _number(message, place)
            if place + length > len(message):
                raise ValueError("a field is cut short")
            yield number, message[place : place + length]
            place += length
        else:
            raise ValueError(f"a field is of kind {kind}")


def _number(message: bytes, place: int) -> tuple[int, int]:
    number = 0
    for shift in range(_LONGEST_VARINT):
        if place >= len(message):
            raise ValueError("a number is cut short")
        byte = message[place]
        place += 1
        number |= (byte & 127) << (7 * shift)
        if byte < 128:
            return number, place
    raise ValueError(f"a number has more than {_LONGEST_VARINT} bytes")


def _signed(value: bytes | int) -> int:
    if not isinstance(value, int):
        raise ValueError("a number is needed")
    return value - (1 << 64) if value >= 1 << 63 else value


def _raw(value: bytes | int) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("bytes are needed")
    return value
