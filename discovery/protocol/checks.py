"""Which values the fields of a message may have.

Rule 1: the same name means the same in every message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard

from discovery.interest import MAX_INTEREST, is_key
from discovery.model import is_name, is_number
from discovery.protocol.limits import MAX_ENTRIES, MAX_LISTS, MAX_REGISTRY_CERTIFICATES, MAX_RENEWALS
from discovery.protocol.messages import Drop, Revoked, Snapshot, Subscribe, Withdraw


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


def is_entry(value: object) -> TypeGuard[list[Any]]:
    """Whether this is an entry of a snapshot: [record, age in seconds, suspect, ...]."""
    return isinstance(value, list) and len(value) >= 3 and _is_age(value[1]) and _is_bool(value[2])


def _is_list(value: object) -> bool:
    return isinstance(value, list) and len(value) <= MAX_ENTRIES


def _are_bytes(value: object, most: int) -> bool:
    return isinstance(value, list) and len(value) <= most and all(isinstance(one, bytes) for one in value)


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
    "lists": lambda value: _are_bytes(value, MAX_LISTS),
    "registries": lambda value: _are_bytes(value, MAX_REGISTRY_CERTIFICATES),
    "signed": lambda value: value is None or isinstance(value, bytes),
}
#: Fields that may be None: a subscriber of all namespaces, or of all records.
MAY_BE_NONE = {(Subscribe.KIND, "namespace"), (Subscribe.KIND, "interest")}
#: How many of the last fields a peer of an earlier release may leave out, by kind. They then have their defaults.
OPTIONAL: dict[int, int] = {Subscribe.KIND: 2, Snapshot.KIND: 2, Withdraw.KIND: 1, Drop.KIND: 1, Revoked.KIND: 1}
