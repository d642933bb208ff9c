"""The note: a value under a key that outlives its writer.

Internal. Programs import it from `discovery`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from discovery.exceptions import DirectoryProtocolError
from discovery.model.quoting import quoted
from discovery.model.values import (
    DEFAULT_NOTE_TTL,
    LONGEST_KEY,
    LONGEST_NOTE_TTL,
    is_map,
    is_name,
    is_number,
    is_shallow,
    is_signed,
)


@dataclass(frozen=True, slots=True)
class Note:
    """Please store `value` under `key`, beyond all leases, until `ttl` seconds after `stamp`.

    `stamp` is the time of writing, in microseconds since 1970. A note without a value is a tombstone: the key was deleted.
    `signed`: in a closed cluster, the whole note as its writer signed it. `signer`: the writer's key, after it was checked.
    """

    namespace: str
    key: str
    stamp: int
    ttl: float = DEFAULT_NOTE_TTL
    value: dict[str, Any] | None = None
    signed: bytes | None = field(default=None, repr=False, compare=False)
    signer: bytes = field(default=b"", repr=False, compare=False)

    @property
    def rank(self) -> tuple[int, bool, str]:
        """Of two notes under one key the one with the higher rank wins, at every registry and client."""
        return (self.stamp, self.value is None, repr(self.value))

    def age(self, now: float) -> float:
        """Seconds since the note was written."""
        return now - self.stamp / 1e6

    def to_list(self) -> list[Any]:
        """The fields as plain values."""
        fields = [self.namespace, self.key, self.stamp, self.ttl, self.value]
        return fields if self.signed is None else [*fields, self.signed]

    @classmethod
    def from_list(cls, fields: object) -> Note:
        """The note that `to_list` gave. Further fields are ignored. DirectoryProtocolError for anything else."""
        if not isinstance(fields, list) or len(fields) < len(NOTE_FIELDS):
            raise DirectoryProtocolError(f"a note is {quoted(fields)}; a list of its fields is needed")
        for (name, is_right), value in zip(NOTE_FIELDS.items(), fields, strict=False):
            if not is_right(value):
                raise DirectoryProtocolError(f"{name} of a note is {quoted(value)}")
        signed = fields[len(NOTE_FIELDS)] if len(fields) > len(NOTE_FIELDS) else None
        if not is_signed(signed):
            raise DirectoryProtocolError(f"signed of a note is {quoted(signed)}")
        namespace, key, stamp, ttl, value = fields[: len(NOTE_FIELDS)]
        return cls(namespace, key, stamp, ttl, value, signed)


def is_key(value: object) -> bool:
    """Whether this is a text that may be the key of a note."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST_KEY


def is_note_ttl(value: object) -> bool:
    """Whether a note may live for this many seconds; False for nan."""
    return (type(value) is int or type(value) is float) and 0 < value <= LONGEST_NOTE_TTL


#: A test for each field of a note.
NOTE_FIELDS: dict[str, Callable[[object], bool]] = {
    "namespace": is_name,
    "key": is_key,
    "stamp": is_number,
    "ttl": is_note_ttl,
    "value": lambda value: value is None or (is_map(value) and is_shallow(value)),
}
