"""Fields of protobuf messages, as far as etcd's messages use them.

Sources of the rules: "Encoding" at protobuf.dev.

Rule 1: no sockets, no threads, no clock here.
Rule 2: decoding raises ValueError for bytes that are no message, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator

#: The two kinds of fields that etcd uses.
VARINT, BYTES = 0, 2
#: The most bytes of one number.
_LONGEST_VARINT = 10


def varint(number: int) -> bytes:
    """A number of 0 or more."""
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def field(number: int, value: bytes | int) -> bytes:
    """The bytes of one field; none for the default value, which protobuf leaves out."""
    if not value:
        return b""
    if isinstance(value, int):
        return varint(number << 3 | VARINT) + varint(value)
    return varint(number << 3 | BYTES) + varint(len(value)) + value


def fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Number and value of each field. ValueError for a message that is cut short, or a kind of field that etcd does not use."""
    place = 0
    while place < len(message):
        tag, place = read_varint(message, place)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, place = read_varint(message, place)
            yield number, value
        elif kind == BYTES:
            length, place = read_varint(message, place)
            if place + length > len(message):
                raise ValueError("a field is cut short")
            yield number, message[place : place + length]
            place += length
        else:
            raise ValueError(f"a field is of kind {kind}")


def read_varint(message: bytes, place: int) -> tuple[int, int]:
    """The number that begins at `place`, and the place after it."""
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


def signed(value: bytes | int) -> int:
    """The value of a field of type int64. ValueError for bytes."""
    if not isinstance(value, int):
        raise ValueError("a number is needed")
    return value - (1 << 64) if value >= 1 << 63 else value


def raw(value: bytes | int) -> bytes:
    """The value of a field that has bytes. ValueError for a number."""
    if not isinstance(value, bytes):
        raise ValueError("bytes are needed")
    return value
