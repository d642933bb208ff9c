"""Encodes several messages as one body, a BATCH, and decodes its messages one by one if the whole cannot be decoded.

    body = encode([encode_call(17, "maths", "add", (2, 3)), encode_call(18, "maths", "add", (4, 5))])
    envelope.decode(body).messages == [[3, 17, "maths", "add", [2, 3]], [3, 18, "maths", "add", [4, 5]]]

Rule: a malformed message does not affect the others. docs/protocol.rst says which batches a receiver must accept.
"""

from __future__ import annotations

from typing import Any

from msgpack import StackError, Unpacker

from zmqservices.exceptions import ProtocolError
from zmqservices.wire import codec

#: The first bytes of a BATCH: an array of two items, of which the first is its kind. The second is the array of its messages.
_BATCH = b"\x92\x0d"
#: The most messages, and the most bytes of them, that are decoded one by one: more than any peer sends together, and quick.
MOST_PARTED, LARGEST_PARTED = 1024, 1024 * 1024
#: The most messages of a BATCH: more than any peer sends together, and few enough to be handled in one turn.
MAX_MESSAGES = 4096
#: The most bytes of a message that is decoded although it is nested as deep as the encoder can nest.
LARGEST_DEEP = 16 * 1024


def encode(bodies: list[bytes]) -> bytes:
    """One body that holds these bodies: at most 65,535, without payload frames. A single body is returned unchanged."""
    count = len(bodies)
    if count == 1:
        return bodies[0]
    head = bytes((0x90 | count,)) if count < 16 else b"\xdc" + count.to_bytes(2, "big")
    return b"".join((_BATCH, head, *bodies))


def check_count(body: bytes) -> None:
    """Raises ProtocolError if the BATCH in this body has more than MAX_MESSAGES messages. Decodes none of them."""
    first = body[2]
    count = first & 0x0F if first & 0xF0 == 0x90 else int.from_bytes(body[3 : 5 if first == 0xDC else 7], "big")
    if count > MAX_MESSAGES:
        raise ProtocolError(f"a BATCH of {count:,} messages; {MAX_MESSAGES:,} may come together")


def is_batch(body: bytes) -> bool:
    """Whether the body is a BATCH, by its first bytes."""
    return body[: len(_BATCH)] == _BATCH


def part(body: bytes, hook: codec.Hook) -> list[Any]:
    """Decode the messages of a BATCH one by one, because the whole could not be decoded.

    Either a message is malformed, or it is nested too deep only because it is inside a BATCH. If a message cannot be decoded
    alone, the list has its ProtocolError in its place. Raises ProtocolError if the BATCH itself is not well-formed.
    """
    rest = body[len(_BATCH) :]
    try:
        reader = _reader_of(rest)
        count = reader.read_array_header()
        if count > MOST_PARTED or len(body) > LARGEST_PARTED:
            raise ProtocolError(f"a BATCH of {count:,} messages in {len(body):,} bytes, one of which is malformed")
        found: list[Any] = []
        # The position of the next message, and the position of the first byte that the reader was given.
        at, given = reader.tell(), 0
        for _ in range(count):
            try:
                reader.skip()
                end = given + reader.tell()
            except StackError:
                given = end = at + _size_of_deepest(rest[at : at + LARGEST_DEEP])
                reader = _reader_of(rest[end:])
            found.append(_fields_of(rest[at:end], hook))
            at = end
    except ProtocolError:
        raise
    except Exception as exc:
        raise ProtocolError(f"not a well-formed BATCH: {exc or type(exc).__name__}") from exc
    if at != len(rest):
        raise ProtocolError("not a well-formed BATCH: bytes after its end")
    return found


def _reader_of(raw: bytes) -> Any:
    reader = Unpacker(max_buffer_size=len(raw))
    reader.feed(raw)
    return reader


def _size_of_deepest(raw: bytes) -> int:
    """The size of an array that is one level deeper than the reader can skip: as deep as the encoder goes (see `codec`)."""
    reader = _reader_of(raw)
    for _ in range(reader.read_array_header()):
        reader.skip()
    return int(reader.tell())


def _fields_of(raw: bytes, hook: codec.Hook) -> Any:
    try:
        return codec.unpack_with(raw, hook)
    except ProtocolError as exc:
        return exc.with_traceback(None)
