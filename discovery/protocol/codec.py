"""Encodes a message into a frame, and decodes a frame.

Rule 1: whatever the bytes are, decoding raises DirectoryProtocolError and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from discovery.exceptions import DirectoryProtocolError
from discovery.model import NOTE_FIELDS, Note, Record, quoted
from discovery.packing import pack, unpack
from discovery.protocol.checks import CHECKS, MAY_BE_NONE, OPTIONAL, is_entry
from discovery.protocol.limits import MAX_NOTE, MAX_SIGNED_NOTE, VERSION
from discovery.protocol.messages import FIELDS, KINDS, Message, SkippedUpdate
from discovery.record_blocks import RecordBlock


def encode(message: Message) -> bytes:
    """The frame of a message. A value that msgpack cannot carry raises DirectoryError."""
    return pack([VERSION, message.KIND, *(plain(getattr(message, name)) for name in FIELDS[message.KIND])])


#: Called with a sentence for each record or note that is skipped.
OnBad = Callable[[str], None]


def decode(frame: bytes) -> Message:
    """The message in a frame; DirectoryProtocolError when the frame is not a message."""
    message = _decode(frame, None)
    assert not isinstance(message, SkippedUpdate)
    return message


def decode_push(frame: bytes, on_bad: OnBad) -> Message | SkippedUpdate:
    """As `decode`, but skips each record or note that this client cannot use, and takes the rest."""
    return _decode(frame, on_bad)


def _decode(frame: bytes, on_bad: OnBad | None) -> Message | SkippedUpdate:
    body = unpack(frame)
    if not isinstance(body, list) or len(body) < 2:
        raise DirectoryProtocolError("a frame is not an array of version, kind and fields")
    version, kind, *values = body
    if version != VERSION:
        raise DirectoryProtocolError(
            f"a frame of protocol version {quoted(version, 20)}; this is version {VERSION}"
        )
    if type(kind) is not int or kind not in KINDS:
        raise DirectoryProtocolError(f"an unknown kind of message: {quoted(kind, 40)}")
    names = FIELDS[kind]
    if len(values) < len(names) - OPTIONAL.get(kind, 0):
        raise DirectoryProtocolError(f"{KINDS[kind].__name__} with {len(values)} of {len(names)} fields")
    values = values[: len(names)]
    for position, (name, value) in enumerate(zip(names, values, strict=False)):
        if name == "record" and on_bad is not None:
            continue
        if not (CHECKS[name](value) or (value is None and (kind, name) in MAY_BE_NONE)):
            raise DirectoryProtocolError(f"{name} of {KINDS[kind].__name__} is {quoted(value)}")
        if name == "record":
            values[position] = Record.from_dict(value)
        elif name == "entries":
            values[position] = _each(_entry, value, on_bad)
        elif name == "notes":
            values[position] = _each(_note, value, on_bad)
        elif name == "blocks":
            values[position] = _each(RecordBlock.from_list, value, on_bad)
    if on_bad is not None and "record" in names:
        position = names.index("record")
        records = _each(Record.from_dict, [values[position]], on_bad)
        if not records:
            return SkippedUpdate(*values[:2])
        values[position] = records[0]
    message: Message = KINDS[kind](*values)
    return message


def _each(make: Callable[[Any], Any], values: list[Any], on_bad: OnBad | None) -> list[Any]:
    if on_bad is None:
        return [make(value) for value in values]
    made = []
    for value in values:
        try:
            made.append(make(value))
        except DirectoryProtocolError as exc:
            on_bad(str(exc))
    return made


def _entry(value: object) -> list[Any]:
    if not is_entry(value):
        raise DirectoryProtocolError(f"an entry of a snapshot is {quoted(value)}")
    return [Record.from_dict(value[0]), *value[1:3]]


def size_of(note: Note) -> int:
    """Bytes of a note without what its writer signed."""
    return len(pack(note.to_list()[: len(NOTE_FIELDS)]))


def _note(fields: object) -> Note:
    note = Note.from_list(fields)
    if size_of(note) > MAX_NOTE:
        raise DirectoryProtocolError(f"a note takes more than {MAX_NOTE} bytes")
    if len(note.signed or b"") > MAX_SIGNED_NOTE:
        raise DirectoryProtocolError(f"the signed part of a note takes more than {MAX_SIGNED_NOTE} bytes")
    return note


def plain(value: object) -> object:
    """A field's value as msgpack carries it."""
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, Note | RecordBlock):
        return value.to_list()
    return [plain(item) for item in value] if isinstance(value, list) else value
