"""The changes of a registry's table, for its subscribers."""

from __future__ import annotations

from dataclasses import dataclass, field

from discovery.model import Record


@dataclass(frozen=True, slots=True)
class Updated:
    """A record was registered or has changed, became suspect, or is not suspect any more.

    `keys`: the keys of the record, and those that it had before, so that every client that saw it learns of the change.
    """

    record: Record
    suspect: bool
    keys: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Removed:
    """A record was withdrawn by its holder, or its lease expired.

    `keys`: the keys that the record had; None if the registry does not know them. `signed`: the withdrawal as its holder
    signed it, in a closed cluster.
    """

    namespace: str
    instance: str
    rank: tuple[int, int]
    withdrawn: bool
    keys: tuple[str, ...] | None = field(default=None, compare=False)
    signed: bytes | None = field(default=None, compare=False, repr=False)


Change = Updated | Removed
