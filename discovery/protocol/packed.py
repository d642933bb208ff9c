"""Frames from parts that are packed already: a registry packs a change or a record once for all its subscribers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgpack

from discovery.model import Note
from discovery.packing import pack
from discovery.protocol.codec import plain
from discovery.protocol.limits import PART_SIZE, VERSION
from discovery.protocol.messages import FIELDS, Drop, Heartbeat, NotesChanged, Snapshot, Update


class Push:
    """A change, packed once for all subscribers. `frame(seq)` is the frame for one of them."""

    __slots__ = ("_head", "_tail")

    def __init__(self, message: Update | Drop | Heartbeat | NotesChanged) -> None:
        self._pack(message.KIND, [pack(plain(getattr(message, name))) for name in FIELDS[message.KIND][1:]])

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
