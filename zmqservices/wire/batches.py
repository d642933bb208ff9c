"""Several messages in one body: how a BATCH is put together, and taken apart where that does not go at once.

    body = encode([encode_call(17, "maths", "add", (2, 3)), encode_call(18, "maths", "add", (4, 5))])
    envelope.decode(body).messages == [[3, 17, "maths", "add", [2, 3]], [3, 18, "maths", "add", [4, 5]]]

Rule: what is wrong with one message costs no other. See docs/protocol.rst for what a receiver has to put up with.
"""

from __future__ import annotations

from typing import Any

from msgpack import StackError, Unpacker

from zmqservices.exceptions import ProtocolError
from zmqservices.wire import codec

#: How the body begins: an array of two, the first of which is its kind. Its messages follow as an array.
_BATCH = b"\x92\x0d"
#: Messages, and their bytes, that are looked for one by one: many more than anybody sends together, and quickly done.
MOST_PARTED, LARGEST_PARTED = 1024, 1024 * 1024
#: Messages that a BATCH may hold: many more than are ever sent together, and few enough to be handled in one turn.
MAX_MESSAGES = 4096
#: Bytes of a message that is nested as deep as the writer goes, and is still looked for.
LARGEST_DEEP = 16 * 1024


def encode(bodies: list[bytes]) -> bytes:
    """One body for these, at most 65,535, which have no payload frames; a single one stays as it is."""
    count = len(bodies)
    if count == 1:
        return bodies[0]
    head = bytes((0x90 | count,)) if count < 16 else b"\xdc" + count.to_bytes(2, "big")
    return b"".join((_BATCH, head, *bodies))


def check_count(body: bytes) -> None:
    """Raises ProtocolError where the body is a BATCH of more messages than may come together; nothing of it is decoded."""
    first = body[2]
    count = first & 0x0F if first & 0xF0 == 0x90 else int.from_bytes(body[3 : 5 if first == 0xDC else 7], "big")
    if count > MAX_MESSAGES:
        raise ProtocolError(f"a BATCH of {count:,} messages; {MAX_MESSAGES:,} may come together")


def is_batch(body: bytes) -> bool:
    """Whether the body is meant for one, as far as its first bytes tell."""
    return body[: len(_BATCH)] == _BATCH


def part(body: bytes, hook: codec.Hook) -> list[Any]:
    """The messages of a BATCH that could not be decoded at once, each decoded alone.

    One of them has what only it shall suffer for, or they are nested too deep inside of each other and not alone. What cannot
    be decoded alone either stands there as its ProtocolError; raises one where the whole is not well-formed.
    """
    rest = body[len(_BATCH) :]
    try:
        reader = _reader_of(rest)
        count = reader.read_array_header()
        if count > MOST_PARTED or len(body) > LARGEST_PARTED:
            raise ProtocolError(f"a BATCH of {count:,} messages in {len(body):,} bytes, one of which is malformed")
        found: list[Any] = []
        # Where the next message begins, and where what the reader was given.
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
    """Bytes of an array that is nested one level deeper than can be skipped: as deep as the writer goes (see `codec`)."""
    reader = _reader_of(raw)
    for _ in range(reader.read_array_header()):
        reader.skip()
    return int(reader.tell())


def _fields_of(raw: bytes, hook: codec.Hook) -> Any:
    try:
        return codec.unpack_with(raw, hook)
    except ProtocolError as exc:
        return exc.with_traceback(None)
