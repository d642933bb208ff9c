"""The members of a group, and who of them gets the events of a key. Pure."""

from __future__ import annotations

from collections.abc import Iterable


class Member:
    """Somebody who takes events, as long as there is credit."""

    __slots__ = ("name", "credit", "in_flight", "seen_at", "is_silent", "keyed", "is_in_turn")

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.credit = 0
        self.in_flight: set[int] = set()
        self.seen_at = now
        self.is_silent = False
        #: A heap of seqs that are ready and, by their key, this member's.
        self.keyed: list[int] = []
        self.is_in_turn = False

    @property
    def may_take(self) -> bool:
        """Whether an event may be sent to it."""
        return self.credit > 0 and not self.is_silent


def chosen(key: str, names: Iterable[str]) -> str:
    """The member for a key: the same as long as it is there, whoever else comes or goes (rendezvous hashing)."""
    return max(names, key=lambda name: (_weight(key, name), name))


def _weight(key: str, name: str) -> bytes:
    # Here, as few processes dispatch events with keys, and it brings all of OpenSSL: 3.5 MB.
    from hashlib import blake2b

    return blake2b(key.encode(), digest_size=8, key=name.encode()[:64]).digest()
