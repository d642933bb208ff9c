"""Routes calls by key: a key's calls go to the same instance while the set of instances is the same (rendezvous hashing).

Rule 1: pure and without state, so that all callers that know the same instances choose alike.
Rule 2: each key puts the instances into an order, and its calls go to the first one that may be asked. When one of n instances
goes, only its keys move (1/n of all), evenly to the others. A new instance takes an equal part of the keys of each.
Rule 3: an instance with the weight two gets twice as many keys.
Rule 4: bounded load: an instance that has more than BOUND times its share of the calls in flight is skipped, and the call goes
to the next one in the key's order. An instance with at most FEW calls in flight is never skipped.
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

#: How many times its share of the calls in flight an instance may have before its calls go to others.
BOUND = 1.25

#: An instance with at most this many calls in flight is never skipped.
FEW = 10


class Hashed(Protocol):
    load: Load

    @property
    def id(self) -> str: ...


Candidate = TypeVar("Candidate", bound=Hashed)


def as_bytes(key: object) -> bytes:
    """The bytes of a key; a number and its text are the same key. Raises TypeError for other types than KINDS."""
    if isinstance(key, bytes):
        return key
    if not isinstance(key, KINDS):
        raise TypeError(f"a key is {repr(key)[:80]}; a text, bytes, a number or a UUID is needed")
    return str(key).encode()


def order(candidates: Sequence[Candidate], key: bytes) -> list[Candidate]:
    """All candidates in the order of the key."""
    return sorted(candidates, key=lambda candidate: _score(candidate, key), reverse=True)


def _score(candidate: Hashed, key: bytes) -> float:
    # Imported here, because it loads OpenSSL and most callers route nothing by key.
    from hashlib import blake2b

    digest = blake2b(key, digest_size=8, key=candidate.id.encode()[:64]).digest()
    # Between 0 and 1, both excluded.
    part = (int.from_bytes(digest, "big") + 0.5) / 2.0**64
    return candidate.load.share / -log(min(part, 1.0 - 2.0**-53))


def choose_by_key(candidates: Sequence[Candidate], key: bytes) -> Candidate:
    """The candidate (of at least one) that gets a call with this key now."""
    ordered = order(candidates, key)
    calls = sum(candidate.load.in_flight for candidate in ordered) + 1
    shares = sum(candidate.load.share for candidate in ordered)
    for candidate in ordered:
        load = candidate.load
        if load.in_flight < max(FEW, BOUND * calls * load.share / shares):
            return candidate
    return ordered[0]
