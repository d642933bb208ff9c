"""Reads prefixes of etcd's keys, all at one revision."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from discovery.backends.etcd.gateway import EtcdFailure, EtcdGateway
from discovery.backends.etcd.requests import OPERATIONS, Body, decoded, delete_if_unchanged, read_below, read_keys
from discovery.backends.found import Found
from discovery.backends.keyspace import Keyspace

#: Keys of one prefix in one answer.
PAGE = 1000
#: Expired notes that one reading deletes.
MAX_SWEPT = 100


@dataclass
class EtcdListing:
    """What was found, the id of the cluster, and the revision at which everything was read."""

    cluster: str = ""
    revision: int = 0
    found: Found[Body] = field(default_factory=Found)


def read(gateway: EtcdGateway, space: Keyspace, prefixes: list[str]) -> EtcdListing:
    """Reads everything below these prefixes, and deletes notes that are past their ttl."""
    reading = EtcdListing()
    items: list[Body] = []
    with gateway.errors():
        for start in range(0, len(prefixes), OPERATIONS):
            some = prefixes[start : start + OPERATIONS]
            ranges = [{"request_range": read_below(prefix, PAGE, reading.revision)} for prefix in some]
            answer = gateway.ask("/v3/kv/txn", {"success": ranges})
            reading.cluster = str(answer["header"].get("cluster_id", ""))
            reading.revision = reading.revision or int(answer["header"]["revision"])
            for prefix, response in zip(some, answer["responses"], strict=True):
                items += _all_pages(gateway, prefix, response["response_range"], reading.revision)
    for item in items:
        key = decoded(item["key"]).decode(errors="replace")
        reading.found.sort(space, key, decoded(item.get("value", "")), item, time.time())
    for item in reading.found.expired[:MAX_SWEPT]:
        _sweep(gateway, item)
    return reading


def leases_of(gateway: EtcdGateway, keys: list[str]) -> dict[str, str]:
    """Those of these keys that are there, each with the id of its lease."""
    found: dict[str, str] = {}
    for start in range(0, len(keys), OPERATIONS):
        some = keys[start : start + OPERATIONS]
        with gateway.errors():
            answer = gateway.ask("/v3/kv/txn", read_keys(some))
        for key, response in zip(some, answer["responses"], strict=True):
            found.update((key, held.get("lease", "")) for held in response["response_range"].get("kvs", ()))
    return found


def _all_pages(gateway: EtcdGateway, prefix: str, first: Body, revision: int) -> list[Body]:
    """The items on the first page of a prefix, and on all further pages."""
    page: list[Body] = first.get("kvs", [])
    found, answer = page, first
    while answer.get("more") and page:
        last = decoded(page[-1]["key"])
        answer = gateway.ask("/v3/kv/range", read_below(prefix, PAGE, revision, after=last))
        page = answer.get("kvs", [])
        found = found + page
    return found


def _sweep(gateway: EtcdGateway, item: Body) -> None:
    try:
        gateway.ask("/v3/kv/txn", delete_if_unchanged(item))
    except EtcdFailure:
        pass  # This user may only read; other clients delete the note.
