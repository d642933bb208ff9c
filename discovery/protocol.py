"""What registries and their clients say to each other: messages and the one frame that each becomes.

Internal. docs/discovery.rst describes the protocol.

Rule 1: no sockets, no clock here.
Rule 2: a frame is a msgpack array `[version, kind, field, ...]`; fields after those known here are ignored.
Rule 3: whatever the bytes are, decoding raises DirectoryProtocolError and nothing else.
Rule 4: pushes of a registry carry `seq` first, so that one packed change serves all subscribers (see `Push`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import msgpack

from discovery.exceptions import DirectoryError, DirectoryProtocolError
from discovery.model import Note, Record, is_name, is_number, quoted

#: Said in every frame; a peer with another one is refused in words.
VERSION = 1
#: Bytes of one frame that a registry accepts; more closes the connection.
MAX_REQUEST = 1024 * 1024
#: Bytes of one record; checked by whoever announces it, and by the registry.
MAX_RECORD = 256 * 1024
#: Bytes of a registration besides its record.
REGISTRATION_ROOM = 1024
#: Bytes at which a snapshot is cut into parts.
PART_SIZE = 256 * 1024
#: Bytes after which a registry asks a client to say that it has read so far.
MARK_EVERY = 128 * 1024
#: Bytes of one frame that a client accepts: a part may overrun its size by one record.
MAX_PUSH = 2 * 1024 * 1024
#: Parts of one snapshot, records (and notes) of one registry and bytes of all that a client accepts; more than a full
#: registry has.
MAX_PARTS, MAX_ENTRIES, MAX_HELD = 2000, 25_000, 256 * 1024 * 1024
#: Leases renewed in one message.
MAX_RENEWALS = 2000
#: Bytes of one note, and notes in one message.
MAX_NOTE, MAX_NOTES = 4096, 200


@dataclass(slots=True)
class Subscribe:
    """Please send what you hold of `namespace` (None: of all), and from then on each change."""

    KIND: ClassVar[int] = 1
    namespace: str | None


@dataclass(slots=True)
class Register:
    """Please hold this record for as long as it is renewed; it replaces one of lower rank."""

    KIND: ClassVar[int] = 2
    request: int
    record: Record


@dataclass(slots=True)
class Renew:
    """Please let these live on; each is [instance, incarnation, version]."""

    KIND: ClassVar[int] = 3
    leases: list[list[Any]]


@dataclass(slots=True)
class Withdraw:
    """Please forget this instance at once, and tell everybody, also if you never knew it."""

    KIND: ClassVar[int] = 4
    request: int
    namespace: str
    instance: str
    incarnation: int
    version: int


@dataclass(slots=True)
class PutNotes:
    """Please store each of these notes unless you have one of higher rank under its key, and tell all subscribers."""

    KIND: ClassVar[int] = 5
    request: int
    notes: list[Note]


@dataclass(slots=True)
class Read:
    """All is read that was sent before the mark with this token."""

    KIND: ClassVar[int] = 6
    token: int


@dataclass(slots=True)
class Ack:
    """What `request` asked is done."""

    KIND: ClassVar[int] = 16
    request: int


@dataclass(slots=True)
class Refused:
    """What `request` asked will not be done; `reason` is a sentence. `request` 0: the message as a whole."""

    KIND: ClassVar[int] = 17
    request: int
    reason: str


@dataclass(slots=True)
class Unknown:
    """These leases are not held here; please register again."""

    KIND: ClassVar[int] = 18
    instances: list[str]


@dataclass(slots=True)
class Snapshot:
    """Part `part` of all that is held; each entry is [record, age in seconds, suspect].

    `parts` is 0 while more are to come, and their number in the last one. All together have all notes as well.
    """

    KIND: ClassVar[int] = 19
    seq: int
    boot_id: str
    warming: bool
    part: int
    parts: int
    entries: list[Any]
    notes: list[Note]


@dataclass(slots=True)
class Update:
    """A record is new, or changed, or became or ceased to be suspect."""

    KIND: ClassVar[int] = 20
    seq: int
    boot_id: str
    record: Record
    age: float
    suspect: bool


@dataclass(slots=True)
class Drop:
    """A record is gone: withdrawn by its holder, or expired."""

    KIND: ClassVar[int] = 21
    seq: int
    boot_id: str
    instance: str
    incarnation: int
    version: int
    withdrawn: bool


@dataclass(slots=True)
class Heartbeat:
    """Still here, and this is the last `seq` you should have."""

    KIND: ClassVar[int] = 22
    seq: int
    boot_id: str
    warming: bool


@dataclass(slots=True)
class NotesChanged:
    """These notes are new, or newer than those that were under their keys."""

    KIND: ClassVar[int] = 23
    seq: int
    boot_id: str
    notes: list[Note]


@dataclass(slots=True)
class Mark:
    """Please answer with `Read` of this token once you have read so far; nobody can guess it."""

    KIND: ClassVar[int] = 24
    token: int


Message = (
    Subscribe
    | Register
    | Renew
    | Withdraw
    | PutNotes
    | Read
    | Ack
    | Refused
    | Unknown
    | Snapshot
    | Update
    | Drop
    | Heartbeat
    | NotesChanged
    | Mark
)


@dataclass(slots=True)
class PassedOver:
    """An update whose record is of no use here; it counts as one."""

    seq: int
    boot_id: str


KINDS: dict[int, type[Any]] = {kind.KIND: kind for kind in Message.__args__}


def _is_bool(value: Any) -> bool:
    return type(value) is bool


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_age(value: Any) -> bool:
    return type(value) in (int, float) and value >= 0


def _is_lease(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) >= 3 and is_name(value[0]) and all(map(is_number, value[1:3]))
    )


def _is_leases(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MAX_RENEWALS and all(map(_is_lease, value))


def _is_entry(value: Any) -> bool:
    return isinstance(value, list) and len(value) >= 3 and _is_age(value[1]) and _is_bool(value[2])


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MAX_ENTRIES


#: What a field may be, by its name; the same name means the same in every message.
CHECKS: dict[str, Callable[[Any], bool]] = {
    "namespace": is_name,
    "request": is_number,
    "record": lambda value: isinstance(value, dict),
    "leases": _is_leases,
    "instance": is_name,
    "incarnation": is_number,
    "version": is_number,
    "reason": _is_text,
    "instances": lambda value: isinstance(value, list) and all(map(is_name, value)),
    "seq": is_number,
    "boot_id": is_name,
    "warming": _is_bool,
    "part": is_number,
    "parts": is_number,
    "entries": _is_list,
    "notes": _is_list,
    "age": _is_age,
    "suspect": _is_bool,
    "withdrawn": _is_bool,
    "token": is_number,
}
FIELDS: dict[int, tuple[str, ...]] = {kind: tuple(f.name for f in fields(cls)) for kind, cls in KINDS.items()}
#: Where None is an answer too: a subscriber of everything.
MAY_BE_NONE = {(Subscribe.KIND, "namespace")}


def encode(message: Message) -> bytes:
    """The frame of a message. A value that cannot travel raises DirectoryError."""
    return pack([VERSION, message.KIND, *(_plain(getattr(message, name)) for name in FIELDS[message.KIND])])


#: Told of each record or note that is passed over, in a sentence.
OnBad = Callable[[str], None]


def decode(frame: bytes) -> Message:
    """The message in a frame; DirectoryProtocolError when there is none."""
    message = _decode(frame, None)
    assert not isinstance(message, PassedOver)
    return message


def decode_push(frame: bytes, on_bad: OnBad) -> Message | PassedOver:
    """As `decode`, but a record or note that is of no use is passed over by itself, and the rest is taken."""
    return _decode(frame, on_bad)


def _decode(frame: bytes, on_bad: OnBad | None) -> Message | PassedOver:
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
    if len(values) < len(names):
        raise DirectoryProtocolError(f"{KINDS[kind].__name__} with {len(values)} of {len(names)} fields")
    values = values[: len(names)]
    for position, (name, value) in enumerate(zip(names, values, strict=True)):
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
    if on_bad is not None and "record" in names:
        position = names.index("record")
        records = _each(Record.from_dict, [values[position]], on_bad)
        if not records:
            return PassedOver(*values[:2])
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


def _entry(value: Any) -> list[Any]:
    if not _is_entry(value):
        raise DirectoryProtocolError(f"an entry of a snapshot is {quoted(value)}")
    return [Record.from_dict(value[0]), *value[1:3]]


class Push:
    """A change packed once; `frame(seq)` is what one subscriber gets."""

    __slots__ = ("_head", "_tail")

    def __init__(self, message: Update | Drop | Heartbeat | NotesChanged) -> None:
        values = [_plain(getattr(message, name)) for name in FIELDS[message.KIND][1:]]
        # An array of less than 16 items has a head of one byte: 0x90 + length.
        self._head = bytes([0x90 + 3 + len(values)]) + pack(VERSION) + pack(message.KIND)
        self._tail = b"".join(map(pack, values))

    def frame(self, seq: int) -> bytes:
        """The frame for a subscriber for whom this is number `seq`."""
        return self._head + pack(seq) + self._tail


def snapshot_parts(
    boot_id: str, seq: int, warming: bool, entries: Iterable[list[Any]], notes: Iterable[Note]
) -> Iterator[bytes]:
    """The frames of a snapshot, each of bounded size and made when it is asked for; one frame at least."""
    head = bytes([0x90 + 9]) + b"".join(map(pack, (VERSION, Snapshot.KIND, seq, boot_id, warming)))
    array = msgpack.Packer(autoreset=True).pack_array_header

    def frame(is_last: bool) -> bytes:
        lists = (p for each in held for p in (array(len(each)), *each))
        return b"".join((head, pack(part), pack(part + 1 if is_last else 0), *lists))

    #: What the next part holds of `entries` and of `notes`.
    held: tuple[list[bytes], list[bytes]] = ([], [])
    part = size = 0
    for which, items in enumerate((entries, notes)):
        for item in items:
            packed = pack(_plain(item))
            if size + len(packed) > PART_SIZE and size:
                yield frame(is_last=False)
                held, size, part = ([], []), 0, part + 1
            held[which].append(packed)
            size += len(packed)
    yield frame(is_last=True)


def pack(value: Any) -> bytes:
    """`value` as msgpack; DirectoryError when its type cannot travel."""
    try:
        packed: bytes = msgpack.packb(value, use_bin_type=True)
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise DirectoryError(f"a record cannot be sent: {exc}") from exc
    return packed


def unpack(frame: bytes) -> Any:
    """The value in msgpack bytes; DirectoryProtocolError when they are anything else. Map keys are texts."""
    try:
        return msgpack.unpackb(frame, raw=False, strict_map_key=True, ext_hook=_no_extension)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as exc:
        raise DirectoryProtocolError(f"a frame is not msgpack of this protocol: {exc!r:.120}") from exc


def _no_extension(code: int, data: bytes) -> Any:
    raise ValueError(f"extension {code} has no meaning here")


def _note(fields: Any) -> Note:
    note = Note.from_list(fields)
    if len(pack(note.to_list())) > MAX_NOTE:
        raise DirectoryProtocolError(f"a note takes more than {MAX_NOTE} bytes")
    return note


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, Note):
        return value.to_list()
    return [_plain(item) for item in value] if isinstance(value, list) else value
