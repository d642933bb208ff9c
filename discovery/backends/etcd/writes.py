"""The messages with which etcd's keys and leases are written, and their encoding in protobuf.

Sources of the rules: etcd's `rpc.proto` and `kv.proto`.

Rule 1: no sockets, no threads, no clock here.
Rule 2: decoding raises ValueError for bytes that are no message of etcd's, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from discovery.backends.etcd.messages import Range
from discovery.backends.etcd.protobuf import field, fields, raw, signed
from discovery.backends.etcd.ranges import ReadAnswer, StoredKey, decode_ranges, encode_range

#: The paths of the calls for leases.
GRANT, KEEP_ALIVE = "/etcdserverpb.Lease/LeaseGrant", "/etcdserverpb.Lease/LeaseKeepAlive"
TIME_TO_LIVE = "/etcdserverpb.Lease/LeaseTimeToLive"
#: The most operations in one transaction; etcd allows 128 by default.
OPERATIONS = 100
#: The most bytes of a transaction of several operations; etcd allows 1.5 MB for a request by default.
LONGEST = 1024 * 1024
#: What a condition is about, and the number of the field that has the compared value.
_CREATED, _CHANGED, _VALUE = (1, 5), (2, 6), (3, 7)


@dataclass(frozen=True, slots=True)
class WriteAnswer:
    """The answer to a conditional transaction. `held`: the key that was read because the condition did not hold, if it is there.

    `revision`: the present one, which is that of the transaction if it has written.
    """

    has_succeeded: bool
    revision: int
    held: StoredKey | None


def put(key: str, value: bytes, lease: int) -> bytes:
    """An operation of a transaction: puts a value under a lease; 0 is none."""
    return field(2, field(1, key.encode()) + field(2, value) + field(3, lease))


def delete(key: bytes) -> bytes:
    """An operation of a transaction: deletes a key."""
    return field(3, field(1, key))


def transactions(operations: list[bytes]) -> Iterable[bytes]:
    """Transactions that carry out all of these operations, in their order."""
    some: list[bytes] = []
    size = 0
    for operation in operations:
        if some and (len(some) == OPERATIONS or size + len(operation) > LONGEST):
            yield b"".join(field(2, one) for one in some)
            some, size = [], 0
        some.append(operation)
        size += len(operation)
    if some:
        yield b"".join(field(2, one) for one in some)


def put_if_unchanged(key: str, value: bytes, revision: int) -> bytes:
    """Puts a value if the last change of the key was at `revision` (0: if there is no such key), and reads the key if not."""
    return _conditional(key.encode(), _CHANGED, revision, put(key, value, 0))


def delete_if_unchanged(key: bytes, revision: int) -> bytes:
    """Deletes a key whose last change was at `revision`, unless it was written again."""
    return _conditional(key, _CHANGED, revision, delete(key))


def create_lock(key: str, owner: str, lease: int, revision: int) -> bytes:
    """Puts a lock's key under a lease if it was created at `revision` (0: if there is no such key), and reads it if not."""
    return _conditional(key.encode(), _CREATED, revision, put(key, owner.encode(), lease))


def delete_lock(key: str, owner: str) -> bytes:
    """Deletes a lock's key if `owner` holds it."""
    return _conditional(key.encode(), _VALUE, owner.encode(), delete(key.encode()))


def _conditional(key: bytes, what: tuple[int, int], value: bytes | int, operation: bytes) -> bytes:
    """A transaction that does this if what is compared equals the value, and reads the key if not (TxnRequest)."""
    target, place = what
    condition = field(2, target) + field(3, key) + field(place, value)
    return field(1, condition) + field(2, operation) + field(3, field(1, encode_range(Range(key))))


def decode_write(message: bytes) -> WriteAnswer:
    """The answer to a conditional transaction (TxnResponse)."""
    has_succeeded = bool(dict(fields(message)).get(2, 0))
    answer: ReadAnswer = decode_ranges(message)
    items = [] if has_succeeded else [item for page in answer.pages for item in page.items]
    return WriteAnswer(has_succeeded, answer.revision, items[0] if items else None)


def encode_grant(seconds: int) -> bytes:
    """The request for a lease (LeaseGrantRequest)."""
    return field(1, seconds)


def encode_keep_alive(lease: int) -> bytes:
    """The request to renew a lease (LeaseKeepAliveRequest)."""
    return field(1, lease)


def encode_time_to_live(lease: int) -> bytes:
    """The request for the keys under a lease (LeaseTimeToLiveRequest)."""
    return field(1, lease) + field(2, 1)


def decode_keys(message: bytes) -> frozenset[bytes]:
    """The keys under a lease (LeaseTimeToLiveResponse)."""
    return frozenset(raw(value) for number, value in fields(message) if number == 5)


def decode_lease(message: bytes) -> tuple[int, int]:
    """The id of a lease, and the seconds that it was granted or renewed for; 0 if it has run out."""
    found = dict(fields(message))
    return signed(found.get(2, 0)), signed(found.get(3, 0))

