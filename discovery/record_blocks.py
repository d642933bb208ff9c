"""Blocks: records of one service, compressed together. Each record is decoded when it is first used.

Internal. docs/discovery.rst describes the layout.

A client that starts is sent the records of all services of its interest, and calls few of them at once. The records of one
service resemble each other: compressed together they take a tenth of the bytes.

Rule 1: no sockets, no clock here. Records may be decoded on any thread.
Rule 2: a block gives the keys, the instance and the rank of each record beside it. A record that contains other ones, or cannot
be decoded, is bad: it is None for all callers, and `on_bad` is called with the reason.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from operator import sub
from typing import Any

from discovery.exceptions import DirectoryError, DirectoryProtocolError
from discovery.interest import MAX_SOURCES, Interest, is_key, keys_of, split, wants
from discovery.model import LARGEST_NUMBER, LONGEST_NAME, Record, quoted
from discovery.packing import pack, unpack

#: Bytes of records after which a block is full, and of the largest block that is read: its last record may exceed the first.
BLOCK_SIZE, MAX_BLOCK = 128 * 1024, 512 * 1024
#: The level of zlib: the fastest. Higher levels take more time than they save.
LEVEL = 1

#: Called with the instance of a bad record, and the reason, on the thread that decodes the record first.
OnUnreadable = Callable[[str, str], None]


def nobody_told(instance: str, reason: str) -> None:
    """Does nothing: the default until a connection sets another function."""


class BlockContents:
    """The compressed records of a block, and what they have in common."""

    __slots__ = ("_ends", "_packed", "keys", "on_bad")

    def __init__(self, keys: tuple[str, ...], sizes: Iterable[int], packed: bytes) -> None:
        self.keys = keys
        self.on_bad: OnUnreadable = nobody_told
        #: The position at which each record ends, and the number of all bytes.
        self._ends = array("I", accumulate(sizes))
        self._packed = packed

    @property
    def service(self) -> str:
        """The service of all records."""
        return split(self.keys[0])[1]

    def raw(self) -> bytes:
        """All records as msgpack, one after the other. DirectoryProtocolError if their length is not the declared one."""
        size = self.size
        unpacking = zlib.decompressobj()
        try:
            raw = unpacking.decompress(self._packed, size + 1)
        except zlib.error as exc:
            raise DirectoryProtocolError(f"a block of records cannot be decompressed: {exc}") from exc
        if len(raw) != size:
            raise DirectoryProtocolError(f"a block of records has other than the {size} bytes that it is said to have")
        return raw

    def part(self, raw: bytes, position: int) -> bytes:
        """One record in the bytes that `raw` returned."""
        return raw[self._ends[position - 1] if position else 0 : self._ends[position]]

    @property
    def size(self) -> int:
        """The bytes of all records, decompressed."""
        return self._ends[-1] if self._ends else 0

    def sizes(self) -> Iterator[int]:
        """The bytes of each record."""
        return map(sub, self._ends, chain((0,), self._ends))

    def to_list(self, listing: list[list[Any]]) -> list[Any]:
        """The fields of a block of these contents."""
        return [list(self.keys), 0.0, listing, self._packed]


class _Unread:
    """The type of UNREAD."""


UNREAD = _Unread()


class PackedRecord:
    """A record that is decoded when `unpacked` is called first. Its keys, instance and rank are known before."""

    __slots__ = ("_contents", "_found", "_position", "incarnation", "instance", "version")

    def __init__(self, instance: str, incarnation: int, version: int, contents: BlockContents, position: int) -> None:
        self.instance = instance
        self.incarnation = incarnation
        self.version = version
        self._contents = contents
        self._position = position
        self._found: Record | _Unread | None = UNREAD

    @property
    def rank(self) -> tuple[int, int]:
        """The rank of the record."""
        return (self.incarnation, self.version)

    @property
    def service(self) -> str:
        """The service of the record."""
        return self._contents.service

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the record; see `interest.keys_of`."""
        return self._contents.keys

    @property
    def is_bad(self) -> bool:
        """Whether the record was decoded and found to be bad."""
        return self._found is None

    def unpacked(self, raws: dict[BlockContents, bytes] | None = None) -> Record | None:
        """The record; None for a bad one. `raws`: the blocks that the caller has decompressed already."""
        found = self._found
        if isinstance(found, _Unread):
            try:
                found = self._read({} if raws is None else raws)
            except DirectoryError as exc:
                found = None
                self._found = found
                self._contents.on_bad(self.instance, str(exc))
            self._found = found
        return found

    def packed(self, raws: dict[BlockContents, bytes]) -> bytes | None:
        """The record as msgpack; None for a bad one, or one that cannot be decompressed."""
        if self.is_bad:
            return None
        try:
            return self._contents.part(self._raw(raws), self._position)
        except DirectoryError:
            return None  # Reported once, by the thread that decodes it first.

    def _raw(self, raws: dict[BlockContents, bytes]) -> bytes:
        raw = raws.get(self._contents)
        if raw is None:
            raw = raws[self._contents] = self._contents.raw()
        return raw

    def _read(self, raws: dict[BlockContents, bytes]) -> Record:
        contents = self._contents
        record = Record.from_dict(unpack(contents.part(self._raw(raws), self._position)))
        if (record.instance, record.incarnation, record.version) != (self.instance, self.incarnation, self.version):
            raise DirectoryProtocolError(
                f"a record is listed as {quoted(self.instance)} {self.rank}, and says that it is {quoted(record.instance)} "
                f"{record.rank}"
            )
        if keys_of(record) != contents.keys:
            raise DirectoryProtocolError(f"a record of {quoted(record.service)} is listed under {quoted(contents.service)}")
        return record


#: A record as a directory lists it.
Listed = Record | PackedRecord


def keys_of_listed(record: Listed) -> tuple[str, ...]:
    """Like `interest.keys_of`, for a record that may not be decoded yet."""
    return record.keys if type(record) is PackedRecord else keys_of(record)  # type: ignore[arg-type]


def wants_listed(interest: Interest, record: Listed) -> bool:
    """Like `interest.wants`, for a record that may not be decoded yet."""
    if type(record) is not PackedRecord:
        return wants(interest, record)  # type: ignore[arg-type]
    return interest is None or record.keys[0] in interest or not interest.isdisjoint(record.keys)


def is_bad(record: Listed) -> bool:
    """Whether this was decoded and found to be bad."""
    return type(record) is PackedRecord and record._found is None


def unpacked(records: Iterable[Listed]) -> Iterator[Record | None]:
    """Each record, None for a bad one. Records of one block are decompressed once."""
    raws: dict[BlockContents, bytes] = {}
    return (record.unpacked(raws) if isinstance(record, PackedRecord) else record for record in records)


@dataclass(slots=True)
class RecordBlock:
    """Records of one service as a registry lists them, each with its age in seconds and whether it is suspect."""

    contents: BlockContents
    entries: list[tuple[PackedRecord, float, bool]]

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Each instance, and the bytes of its record."""
        # Records of a service are about as long: one number for each length, and not for each record, is kept.
        lengths: dict[int, int] = {}
        sizes = [lengths.setdefault(size, size) for size in self.contents.sizes()]
        return zip([entry[0].instance for entry in self.entries], sizes, strict=True)

    def to_list(self) -> list[Any]:
        """The fields as plain values."""
        return self.contents.to_list(
            [
                [record.instance, record.incarnation, record.version, age, suspect, size]
                for (record, age, suspect), size in zip(self.entries, self.contents.sizes(), strict=True)
            ]
        )

    @classmethod
    def from_list(cls, fields: Any) -> RecordBlock:
        """The block that `to_list` gave. Further fields are ignored. DirectoryProtocolError for anything else."""
        if not isinstance(fields, list) or len(fields) < 4:
            raise DirectoryProtocolError(f"a block of records is {quoted(fields)}; a list of its fields is needed")
        keys, since, listing, packed = fields[:4]
        if not (
            isinstance(keys, list) and 0 < len(keys) <= MAX_SOURCES + 1 and all(map(is_key, keys)) and split(keys[0])[0]
            and _is_seconds(since) and isinstance(listing, list) and isinstance(packed, bytes)
        ):  # fmt: skip
            raise DirectoryProtocolError("a block of records has no right keys, age, list or bytes")
        sizes = _sizes(listing)
        if sum(sizes) > MAX_BLOCK:
            raise DirectoryProtocolError(f"a block of {sum(sizes)} bytes of records; the most are {MAX_BLOCK}")
        contents = BlockContents(tuple(keys), sizes, packed)
        entries = [
            (PackedRecord(item[0], item[1], item[2], contents, position), item[3] + since, item[4])
            for position, item in enumerate(listing)
        ]
        return cls(contents, entries)


def _is_seconds(value: Any) -> bool:
    return type(value) in (int, float) and value >= 0


def _sizes(listing: list[Any]) -> list[int]:
    """The sizes of all records of a listing. They are looked at column by column: a client that starts is sent thousands.

    An age that is no number makes the sum of all ages none, and so the sum is looked at, too.
    """
    if listing and set(map(type, listing)) == {list} and set(map(len, listing)) == {6}:
        instances, incarnations, versions, ages, suspects, sizes = zip(*listing, strict=True)
        numbers = (*incarnations, *versions)
        if (
            set(map(type, instances)) == {str} and all(instances) and max(map(len, instances)) <= LONGEST_NAME
            and set(map(type, numbers)) == {int} and min(numbers) >= 0 and max(numbers) <= LARGEST_NUMBER
            and set(map(type, ages)) <= {int, float} and min(ages) >= 0 and sum(ages) >= 0
            and set(map(type, suspects)) == {bool}
            and set(map(type, sizes)) == {int} and min(sizes) > 0 and max(sizes) <= MAX_BLOCK
        ):  # fmt: skip
            return list(sizes)
    return [_size(item) for item in listing]


def _size(item: Any) -> int:
    """The size of a record, by its line of the listing: [instance, incarnation, version, age, suspect, size]."""
    if type(item) is list and len(item) >= 6:
        instance, incarnation, version, age, suspect, size = item if len(item) == 6 else item[:6]
        if (
            type(instance) is str and 0 < len(instance) <= LONGEST_NAME and type(incarnation) is int
            and 0 <= incarnation <= LARGEST_NUMBER and type(version) is int and 0 <= version <= LARGEST_NUMBER
            and type(age) in (int, float) and age >= 0 and type(suspect) is bool and type(size) is int and 0 < size <= MAX_BLOCK
        ):  # fmt: skip
            return size
    raise DirectoryProtocolError(f"a record in a block is listed as {quoted(item)}")


#: A record for a block: its keys, its line of the listing without the size, and the record as msgpack.
Entry = tuple[tuple[str, ...], list[Any], bytes]


class BlockPacker:
    """Packs blocks. A chunk of records that has not changed since the last time is not compressed again."""

    def __init__(self) -> None:
        self._compressed: dict[tuple[bytes, ...], bytes] = {}

    def pack(self, entries: Iterable[Entry]) -> list[tuple[bytes, bytes]]:
        """The blocks of these records, each in two parts, between which `filled` puts the seconds."""
        known, self._compressed = self._compressed, {}
        blocks = []
        for keys, chunk in _chunks(entries):
            members = tuple(packed for _, _, packed in chunk)
            compressed = known.get(members) or zlib.compress(b"".join(members), LEVEL)
            self._compressed[members] = compressed
            listing = [[*line, len(packed)] for _, line, packed in chunk]
            blocks.append((b"\x94" + pack(list(keys)), pack(listing) + pack(compressed)))
        return blocks


def blocks_of(entries: Iterable[Entry]) -> list[RecordBlock]:
    """The blocks of these records, for a client that has read them from an engine."""
    blocks = []
    for keys, chunk in _chunks(entries):
        packed = zlib.compress(b"".join([entry[2] for entry in chunk]), LEVEL)
        contents = BlockContents(keys, [len(entry[2]) for entry in chunk], packed)
        records = [
            (PackedRecord(instance, incarnation, version, contents, position), age, suspect)
            for position, (_, (instance, incarnation, version, age, suspect), _) in enumerate(chunk)
        ]
        blocks.append(RecordBlock(contents, records))
    return blocks


def filled(block: tuple[bytes, bytes], since: float) -> bytes:
    """A block as msgpack. Its ages were right `seconds` ago, and the block says so."""
    return block[0] + pack(since) + block[1]


def _chunks(entries: Iterable[Entry]) -> Iterator[tuple[tuple[str, ...], Sequence[Entry]]]:
    """Chunks of records with the same keys, each of bounded size."""
    open_chunks: dict[tuple[str, ...], tuple[list[Entry], int]] = {}
    for entry in entries:
        chunk, size = open_chunks.get(entry[0], ([], 0))
        if chunk and size + len(entry[2]) > BLOCK_SIZE:
            yield entry[0], chunk
            chunk, size = [], 0
        chunk.append(entry)
        open_chunks[entry[0]] = (chunk, size + len(entry[2]))
    for keys, (chunk, _) in open_chunks.items():
        yield keys, chunk


