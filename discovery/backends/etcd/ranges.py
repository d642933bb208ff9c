"""The messages with which etcd's keys are read, and their encoding in protobuf.

Sources of the rules: etcd's `rpc.proto` and `kv.proto`.

Rule 1: no sockets, no threads, no clock here.
Rule 2: decoding raises ValueError for bytes that are no message of etcd's, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from discovery.backends.etcd.messages import Range
from discovery.backends.etcd.protobuf import BYTES, VARINT, field, fields, raw, read_varint, signed

#: The paths of the two calls.
RANGE, TXN = "/etcdserverpb.KV/Range", "/etcdserverpb.KV/Txn"
#: The first bytes of the fields of a key that are used.
_KEY, _VALUE = 1 << 3 | BYTES, 5 << 3 | BYTES


class StoredKey(NamedTuple):
    """A key as etcd has it. `message`: all its fields."""

    key: bytes
    value: bytes
    message: bytes

    @property
    def created(self) -> int:
        """The revision at which it was created."""
        return self._number(2)

    @property
    def revision(self) -> int:
        """The revision of its last change. Decoded each time, like the others: of most keys none is looked at."""
        return self._number(3)

    @property
    def lease(self) -> int:
        """The id of its lease; 0 for none."""
        return self._number(6)

    def _number(self, name: int) -> int:
        return signed(dict(fields(self.message)).get(name, 0))


@dataclass(frozen=True, slots=True)
class RangePage:
    """The keys of a range, or the first of them if `has_more`."""

    items: list[StoredKey]
    has_more: bool


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """The pages of all ranges that were asked for. `cluster`: its id. `revision`: the present one."""

    cluster: str
    revision: int
    pages: list[RangePage]


def encode_range(span: Range, limit: int = 0, revision: int = 0, keys_only: bool = False) -> bytes:
    """A request for at most `limit` keys of a range (RangeRequest); 0 is any number. `revision`: 0 is the present one."""
    return field(1, span.start) + field(2, span.end) + field(3, limit) + field(4, revision) + field(8, int(keys_only))


def encode_ranges(requests: list[bytes]) -> bytes:
    """A transaction of such requests (TxnRequest)."""
    return b"".join(field(2, field(1, request)) for request in requests)


def decode_ranges(message: bytes) -> ReadAnswer:
    """The answer to a transaction of ranges (TxnResponse)."""
    found = list(fields(message))
    pages = [_page(raw(dict(fields(raw(value))).get(1, b""))) for number, value in found if number == 3]
    return _answer(raw(dict(found).get(1, b"")), pages)


def decode_range(message: bytes) -> ReadAnswer:
    """The answer to a request for one range (RangeResponse)."""
    return _answer(raw(dict(fields(message)).get(1, b"")), [_page(message)])


def _answer(header: bytes, pages: list[RangePage]) -> ReadAnswer:
    known = dict(fields(header))
    return ReadAnswer(str(known.get(1, "")), signed(known.get(3, 0)), pages)


def _page(message: bytes) -> RangePage:
    found = list(fields(message))
    return RangePage([_stored_key(raw(value)) for number, value in found if number == 2], bool(dict(found).get(3, 0)))


def _stored_key(message: bytes) -> StoredKey:
    # Written without `fields`: a client that starts reads thousands of keys, and this takes a third of the time.
    key = value = b""
    place, end = 0, len(message)
    try:
        while place < end:
            tag = message[place]
            place += 1
            if tag & 7 == VARINT and tag < 128:
                while message[place] > 127:
                    place += 1
                place += 1
            elif tag & 7 == BYTES and tag < 128:
                length = message[place]
                place += 1
                if length > 127:
                    length, place = read_varint(message, place - 1)
                place += length
                if tag == _KEY:
                    key = message[place - length : place]
                elif tag == _VALUE:
                    value = message[place - length : place]
            else:
                raise ValueError(f"a field of a key begins with {tag}")
    except IndexError:
        place = end + 1
    if place != end:
        raise ValueError("a key is cut short")
    return StoredKey(key, value, message)
