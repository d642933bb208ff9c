"""The members of a group, and the choice of a member for each key. Pure."""

from __future__ import annotations

from collections.abc import Iterable


class Member:
    """One member of the group. It gets events while it has credit."""

    __slots__ = ("name", "credit", "in_flight", "seen_at", "is_silent", "keyed", "is_in_turn")

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.credit = 0
        self.in_flight: set[int] = set()
        self.seen_at = now
        self.is_silent = False
        #: A heap of the seqs of ready events whose keys belong to this member.
        self.keyed: list[int] = []
        self.is_in_turn = False

    @property
    def may_take(self) -> bool:
        """Whether an event may be sent to this member."""
        return self.credit > 0 and not self.is_silent


def chosen(key: str, names: Iterable[str]) -> str:
    """The member for a key. It stays the same while it is connected, whichever others come or go (rendezvous hashing)."""
    return max(names, key=lambda name: (_weight(key, name), name))


def _weight(key: str, name: str) -> bytes:
    # Imported here: few processes dispatch events with keys, and the module loads OpenSSL, which takes 3.5 MB.
    from hashlib import blake2b

    return blake2b(key.encode(), digest_size=8, key=name.encode()[:64]).digest()
