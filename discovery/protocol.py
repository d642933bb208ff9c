"""The messages between registries and their clients, and the one frame that each becomes.

Internal. docs/discovery.rst describes the protocol.

Rule 1: no sockets, no clock here.
Rule 2: a frame is a msgpack array `[version, kind, field, ...]`; fields after those known here are ignored, and those that
came after version 1.0 (see OPTIONAL) may be missing.
Rule 3: whatever the bytes are, decoding raises DirectoryProtocolError and nothing else.
Rule 4: the first field of a change is `seq`, so that one packed change serves all subscribers (see `Push`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeGuard

import msgpack

from discovery.exceptions import DirectoryProtocolError
from discovery.interest import MAX_INTEREST, is_key
from discovery.model import NOTE_FIELDS, Note, Record, is_name, is_number, quoted
from discovery.packing import pack as pack
from discovery.packing import unpack as unpack
from discovery.record_blocks import RecordBlock

#: The protocol version in every frame. A peer with another version is refused with a sentence.
VERSION = 1
#: Bytes of one frame that a registry accepts; a larger frame closes the connection.
MAX_REQUEST = 1024 * 1024
#: Bytes of one record; checked by the client that announces it, and by the registry.
MAX_RECORD = 256 * 1024
#: Bytes of a registration besides its record.
REGISTRATION_ROOM = 1024
#: Bytes of one part of a snapshot.
PART_SIZE = 256 * 1024
#: Bytes after which a registry asks a client to confirm that it has read so far.
MARK_INTERVAL = 128 * 1024
#: Bytes of one frame that a client accepts: a part may overrun its size by one record.
MAX_PUSH = 2 * 1024 * 1024
#: The most that a client accepts from one registry: parts of one snapshot, records (and as many notes), and bytes of all
#: together. A full registry has less.
MAX_PARTS, MAX_ENTRIES, MAX_HELD = 2000, 25_000, 256 * 1024 * 1024
#: Leases renewed in one message.
MAX_RENEWALS = 2000
#: Lists of revoked certificates in one message: one for each authority.
MAX_LISTS = 8
#: Bytes of one note, and notes in one message.
MAX_NOTE, MAX_NOTES = 4096, 200
#: Bytes of what its writer signed of a note, which comes beside it, and such notes in one message.
MAX_SIGNED_NOTE, MAX_SIGNED_NOTES = 16 * 1024, 40


@dataclass(slots=True)
class Subscribe:
    """Please send a snapshot of `namespace` (None: of all namespaces), and from then on each change.

    `interest`: the keys of the records that are wanted (see `discovery.interest`); None, or missing: all records. All notes
    come in any case. `takes_blocks`: the records of a snapshot may come in blocks (see `discovery.record_blocks`).
    """

    KIND: ClassVar[int] = 1
    namespace: str | None
    interest: list[str] | None = None
    takes_blocks: bool = False


@dataclass(slots=True)
class Register:
    """Please list this record for as long as its lease is renewed. It replaces a record of lower rank."""

    KIND: ClassVar[int] = 2
    request: int
    record: Record


@dataclass(slots=True)
class Renew:
    """Please renew these leases; each is [instance, incarnation, version]."""

    KIND: ClassVar[int] = 3
    leases: list[list[Any]]


@dataclass(slots=True)
class Withdraw:
    """Please remove this instance at once and tell all subscribers, even if you do not list it.

    `signed`: this withdrawal, as the node signed it, in a closed cluster.
    """

    KIND: ClassVar[int] = 4
    request: int
    namespace: str
    instance: str
    incarnation: int
    version: int
    signed: bytes | None = None


@dataclass(slots=True)
class PutNotes:
    """Please store each of these notes unless you have one of higher rank under its key, and tell all subscribers."""

    KIND: ClassVar[int] = 5
    request: int
    notes: list[Note]


@dataclass(slots=True)
class Read:
    """Everything before the mark with this token has been read."""

    KIND: ClassVar[int] = 6
    token: int


@dataclass(slots=True)
class Extend:
    """Please send the records under these keys as well, as updates, and each change of them from now on.

    Acknowledged once all of them have been sent. Only for a registry whose snapshot was `limited`.
    """

    KIND: ClassVar[int] = 7
    request: int
    interest: list[str]


@dataclass(slots=True)
class Present:
    """I hold the key of this certificate: what follows on this connection is asked by its holder. Comes first, where needed."""

    KIND: ClassVar[int] = 8
    certificate: bytes


@dataclass(slots=True)
class Revoked:
    """These certificates are void, as their authorities say: each is a signed list. Either side tells of newer ones."""

    KIND: ClassVar[int] = 9
    lists: list[bytes]


@dataclass(slots=True)
class Ack:
    """`request` was carried out."""

    KIND: ClassVar[int] = 16
    request: int


@dataclass(slots=True)
class Refused:
    """`request` was refused; `reason` is a sentence. `request` 0: a message without a number, or the connection."""

    KIND: ClassVar[int] = 17
    request: int
    reason: str


@dataclass(slots=True)
class Unknown:
    """These leases are unknown here; please register the records again."""

    KIND: ClassVar[int] = 18
    instances: list[str]


@dataclass(slots=True)
class Snapshot:
    """Part `part` of a snapshot; each entry is [record, age in seconds, suspect].

    `parts` is the number of parts in the last one, and 0 in those before. The parts together contain all notes as well.
    `limited`: the registry sends only the records that the subscriber's interest names. One that does not know of
    interests leaves the field out and sends all records. `blocks`: more records, for a subscriber that takes them.
    """

    KIND: ClassVar[int] = 19
    seq: int
    boot_id: str
    warming: bool
    part: int
    parts: int
    entries: list[Any]
    notes: list[Note]
    limited: bool = False
    blocks: list[RecordBlock] = field(default_factory=list)


@dataclass(slots=True)
class Update:
    """A record is new, or it changed, or it became suspect or is not suspect any more."""

    KIND: ClassVar[int] = 20
    seq: int
    boot_id: str
    record: Record
    age: float
    suspect: bool


@dataclass(slots=True)
class Drop:
    """A record was removed: its holder withdrew it, or its lease expired. `signed`: the withdrawal as its holder signed it."""

    KIND: ClassVar[int] = 21
    seq: int
    boot_id: str
    instance: str
    incarnation: int
    version: int
    withdrawn: bool
    signed: bytes | None = None


@dataclass(slots=True)
class Heartbeat:
    """The registry is alive, and `seq` is the number of the last change that it sent you."""

    KIND: ClassVar[int] = 22
    seq: int
    boot_id: str
    warming: bool


@dataclass(slots=True)
class NotesChanged:
    """These notes are new, or they replace older notes under their keys."""

    KIND: ClassVar[int] = 23
    seq: int
    boot_id: str
    notes: list[Note]


@dataclass(slots=True)
class Mark:
    """Please answer with `Read` of this token once you have read so far. The token cannot be guessed."""

    KIND: ClassVar[int] = 24
    token: int


Message = (
    Subscribe
    | Register
    | Renew
    | Withdraw
    | PutNotes
    | Read
    | Extend
    | Present
    | Revoked
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
class SkippedUpdate:
    """An update whose record this client cannot use. Its number counts."""

    seq: int
    boot_id: str


KINDS: dict[int, type[Any]] = {kind.KIND: kind for kind in Message.__args__}


def _is_bool(value: object) -> bool:
    return type(value) is bool


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_age(value: object) -> bool:
    return (type(value) is int or type(value) is float) and value >= 0


def _is_lease(value: object) -> bool:
    return (
        isinstance(value, list) and len(value) >= 3 and is_name(value[0]) and all(map(is_number, value[1:3]))
    )


def _is_leases(value: object) -> bool:
    return isinstance(value, list) and len(value) <= MAX_RENEWALS and all(map(_is_lease, value))


def _is_entry(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list) and len(value) >= 3 and _is_age(value[1]) and _is_bool(value[2])


def _is_list(value: object) -> bool:
    return isinstance(value, list) and len(value) <= MAX_ENTRIES


#: A test for each field, by its name. The same name means the same in every message.
CHECKS: dict[str, Callable[[object], bool]] = {
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
    "interest": lambda value: isinstance(value, list) and len(value) <= MAX_INTEREST and all(map(is_key, value)),
    "limited": _is_bool,
    "takes_blocks": _is_bool,
    "blocks": _is_list,
    "certificate": lambda value: isinstance(value, bytes),
    "lists": lambda value: isinstance(value, list) and len(value) <= MAX_LISTS and all(isinstance(one, bytes) for one in value),
    "signed": lambda value: value is None or isinstance(value, bytes),
}
FIELDS: dict[int, tuple[str, ...]] = {kind: tuple(f.name for f in fields(cls)) for kind, cls in KINDS.items()}
#: Fields that may be None: a subscriber of all namespaces, or of all records.
MAY_BE_NONE = {(Subscribe.KIND, "namespace"), (Subscribe.KIND, "interest")}
#: Last fields that a peer of an earlier release leaves out, by kind; the message then has its default.
OPTIONAL: dict[int, int] = {Subscribe.KIND: 2, Snapshot.KIND: 2, Withdraw.KIND: 1, Drop.KIND: 1}


def encode(message: Message) -> bytes:
    """The frame of a message. A value that msgpack cannot carry raises DirectoryError."""
    return pack([VERSION, message.KIND, *(_plain(getattr(message, name)) for name in FIELDS[message.KIND])])


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
    if not _is_entry(value):
        raise DirectoryProtocolError(f"an entry of a snapshot is {quoted(value)}")
    return [Record.from_dict(value[0]), *value[1:3]]


class Push:
    """A change, packed once for all subscribers. `frame(seq)` is the frame for one of them."""

    __slots__ = ("_head", "_tail")

    def __init__(self, message: Update | Drop | Heartbeat | NotesChanged) -> None:
        self._pack(message.KIND, [pack(_plain(getattr(message, name))) for name in FIELDS[message.KIND][1:]])

    @classmethod
    def of_update(cls, boot_id: str, record: bytes, age: float, suspect: bool) -> Push:
        """An `Update` whose record is packed already."""
        push = cls.__new__(cls)
        push._pack(Update.KIND, [pack(boot_id), record, pack(age), pack(suspect)])
        return push

    def _pack(self, kind: int, packed: list[bytes]) -> None:
        # An array of less than 16 items has a head of one byte: 0x90 + length.
        self._head = bytes([0x90 + 3 + len(packed)]) + pack(VERSION) + pack(kind)
        self._tail = b"".join(packed)

    def frame(self, seq: int) -> bytes:
        """The frame for a subscriber whose change number `seq` this is."""
        return self._head + pack(seq) + self._tail


def packed_entry(record: bytes, age: float, suspect: bool) -> bytes:
    """An entry of a snapshot whose record is packed already."""
    return b"\x93" + record + pack(age) + (b"\xc3" if suspect else b"\xc2")


def snapshot_parts(
    boot_id: str,
    seq: int,
    warming: bool,
    entries: Iterable[bytes],
    notes: Iterable[Note],
    limited: bool = False,
    blocks: Iterable[bytes] = (),
) -> Iterator[bytes]:
    """Yields the frames of a snapshot, at least one, each of bounded size and made only when it is asked for.

    `entries` (see `packed_entry`) and `blocks` are packed, so that a record is encoded once for all subscribers.
    """
    head = bytes([0x90 + 11]) + b"".join(map(pack, (VERSION, Snapshot.KIND, seq, boot_id, warming)))
    array = msgpack.Packer(autoreset=True).pack_array_header
    end = pack(limited)

    def frame(is_last: bool) -> bytes:
        lists = [b"".join((array(len(each)), *each)) for each in held]
        return b"".join((head, pack(part), pack(part + 1 if is_last else 0), *lists[:2], end, lists[2]))

    #: The packed entries, notes and blocks of the next part.
    held: tuple[list[bytes], ...] = ([], [], [])
    part = size = 0
    for which, items in enumerate((entries, (pack(note.to_list()) for note in notes), blocks)):
        for packed in items:
            if size + len(packed) > PART_SIZE and size:
                yield frame(is_last=False)
                held, size, part = ([], [], []), 0, part + 1
            held[which].append(packed)
            size += len(packed)
    yield frame(is_last=True)


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


def _plain(value: object) -> object:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, Note | RecordBlock):
        return value.to_list()
    return [_plain(item) for item in value] if isinstance(value, list) else value
