"""The bodies of requests to etcd's JSON gateway. Keys and values are in base64 there.

Rule 1: no sockets, no threads, no clock here.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

from discovery.backends.etcd.messages import Range

#: The most operations in one transaction; etcd allows 128 by default.
OPERATIONS = 100

Body = dict[str, Any]


def encoded(raw: bytes) -> str:
    """Bytes as the gateway takes them."""
    return base64.b64encode(raw).decode()


def decoded(text: str) -> bytes:
    """The bytes in an answer of the gateway."""
    return base64.b64decode(text)


def below(prefix: str) -> Range:
    """All keys that begin with `prefix`, which ends with a slash."""
    start = prefix.encode()
    return Range(start, start[:-1] + bytes([start[-1] + 1]))


def read_below(prefix: str, limit: int, revision: int = 0, after: bytes = b"") -> Body:
    """Reads at most `limit` keys that begin with `prefix`.

    `revision`: the revision to read at; 0 is the present one. `after`: only keys that come after this one.
    """
    keys = below(prefix)
    start = after + b"\0" if after else keys.start
    at = {"revision": str(revision)} if revision else {}
    return {"key": encoded(start), "range_end": encoded(keys.end), "limit": str(limit), **at}


def put(key: str, value: bytes, lease: str) -> Body:
    """An operation of a transaction: puts a value under a lease."""
    return {"request_put": {"key": encoded(key.encode()), "value": encoded(value), "lease": lease}}


def delete(key: str) -> Body:
    """An operation of a transaction: deletes a key."""
    return {"request_delete_range": {"key": encoded(key.encode())}}


def transactions(operations: list[Body]) -> Iterable[Body]:
    """Transactions that carry out all of these operations, in their order."""
    for start in range(0, len(operations), OPERATIONS):
        yield {"success": operations[start : start + OPERATIONS]}


def put_if_unchanged(key: str, value: bytes, revision: str) -> Body:
    """Puts a value if the last change of the key was at `revision` ("0": if there is no such key), and reads the key if not."""
    name = encoded(key.encode())
    return {
        "compare": [{"key": name, "target": "MOD", "result": "EQUAL", "mod_revision": revision}],
        "success": [{"request_put": {"key": name, "value": encoded(value)}}],
        "failure": [{"request_range": {"key": name}}],
    }


def delete_if_unchanged(item: Body) -> Body:
    """Deletes a key that was read, unless it was written again."""
    return {
        "compare": [{"key": item["key"], "target": "MOD", "result": "EQUAL", "mod_revision": item["mod_revision"]}],
        "success": [{"request_delete_range": {"key": item["key"]}}],
    }


def create_lock(key: str, owner: str, lease: str, revision: str) -> Body:
    """Puts a lock's key under a lease if it was created at `revision` ("0": if there is no such key), and reads it if not."""
    name = encoded(key.encode())
    return {
        "compare": [{"key": name, "target": "CREATE", "result": "EQUAL", "create_revision": revision}],
        "success": [put(key, owner.encode(), lease)],
        "failure": [{"request_range": {"key": name}}],
    }


def delete_lock(key: str, owner: str) -> Body:
    """Deletes a lock's key if `owner` holds it."""
    value = encoded(owner.encode())
    return {
        "compare": [{"key": encoded(key.encode()), "target": "VALUE", "result": "EQUAL", "value": value}],
        "success": [delete(key)],
    }


def read_keys(keys: list[str]) -> Body:
    """Reads these keys at one revision, without their values."""
    return {"success": [{"request_range": {"key": encoded(key.encode()), "keys_only": True}} for key in keys]}


def held_in(answer: Body) -> Body | None:
    """The key that a transaction has read because its condition did not hold; None if it is not there."""
    held: list[Body] = answer["responses"][0]["response_range"].get("kvs", [])
    return held[0] if held else None
