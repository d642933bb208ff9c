"""Which instance gets the calls of a key: always the same one while the instances stay the same (rendezvous hashing).

Rule 1: pure; no state, so that all callers with the same instances choose alike.
Rule 2: for each key the instances have an order, and the first one that may be asked gets its calls. When one of n instances
goes, only its own keys move, a part of 1/n, evenly to the others; when one comes, it takes its part of each.
Rule 3: a weight of two gets twice the keys.
Rule 4: bounded load: an instance that has more than BOUND times its share of the calls in flight is passed over, and its key's
calls go to the next one in the order. Up to FEW calls in flight are never too many.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from math import log
from typing import Protocol, TypeVar
from uuid import UUID

from zmqservices.resilience.balance import Load

#: The types of keys.
KINDS = (str, bytes, int, float, Decimal, UUID)

#: How much more than the average an instance may have in flight before keys are moved away from it.
BOUND = 1.25

#: Calls in flight at one instance up to which no key is moved.
FEW = 10


class Hashed(Protocol):
    load: Load

    @property
    def id(self) -> str: ...


Candidate = TypeVar("Candidate", bound=Hashed)


def as_bytes(key: object) -> bytes:
    """A key as it is hashed; a number and its text are the same key. Raises TypeError for what is no text, number or UUID."""
    if isinstance(key, bytes):
        return key
    if not isinstance(key, KINDS):
        raise TypeError(f"a key is {repr(key)[:80]}; a text, bytes, a number or a UUID is needed")
    return str(key).encode()


def order(candidates: Sequence[Candidate], key: bytes) -> list[Candidate]:
    """All candidates, those first that the key belongs to first."""
    return sorted(candidates, key=lambda candidate: _score(candidate, key), reverse=True)


def _score(candidate: Hashed, key: bytes) -> float:
    # Imported here: it brings OpenSSL, and most callers route nothing by key.
    from hashlib import blake2b

    digest = blake2b(key, digest_size=8, key=candidate.id.encode()[:64]).digest()
    # Between 0 and 1, without both.
    part = (int.from_bytes(digest, "big") + 0.5) / 2.0**64
    return candidate.load.share / -log(min(part, 1.0 - 2.0**-53))


def choose_by_key(candidates: Sequence[Candidate], key: bytes) -> Candidate:
    """The one of `candidates` (at least one) that gets a call of this key now."""
    ordered = order(candidates, key)
    calls = sum(candidate.load.in_flight for candidate in ordered) + 1
    shares = sum(candidate.load.share for candidate in ordered)
    for candidate in ordered:
        load = candidate.load
        if load.in_flight < max(FEW, BOUND * calls * load.share / shares):
            return candidate
    return ordered[0]
