"""Revoked certificates: a list that their authority signs. Pure.

Internal.

Rule 1: of two lists of one authority the one with the higher number is valid. A list never becomes shorter while its
certificates have not ended.
Rule 2: an authority revokes its own certificates only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import msgpack

from discovery.exceptions import SecurityError
from discovery.model import is_name, is_number, quoted
from discovery.security import signing
from discovery.security.sealed import Sealed, unpacked, unsealed
from discovery.security.signing import KeyPair

PURPOSE = "zmqservices revocations 1"
WHAT = "a list of revoked certificates"
#: The most bytes of a signed list, and the most serials in it.
LONGEST_LIST, MOST_SERIALS = 512 * 1024, 10_000


class FoundList(NamedTuple):
    """The value that an engine has in the place of a list; empty if the list was deleted. It is not verified yet."""

    signed: bytes


@dataclass(frozen=True, slots=True)
class Revocations:
    """List `number` of `authority`: these serials are revoked. `signed`: the signed list; empty if there is no list yet."""

    authority: bytes
    number: int = 0
    serials: frozenset[str] = frozenset()
    signed: bytes = field(default=b"", repr=False)

    def with_serials(self, serials: set[str], keys: KeyPair) -> Revocations:
        """The next list, which also has these serials. SecurityError if it would be too long."""
        together = sorted(self.serials | serials)
        if len(together) > MOST_SERIALS:
            raise SecurityError(
                f"a list of {len(together):,} revoked certificates; {MOST_SERIALS:,} are possible: change the authority"
            )
        packed = msgpack.packb({"number": self.number + 1, "serials": together})
        signed = Sealed(packed, keys.public, signing.sign(keys, PURPOSE, packed)).to_bytes()
        return Revocations(keys.public, self.number + 1, frozenset(together), signed)

    @classmethod
    def from_bytes(cls, signed: bytes) -> Revocations:
        """The list in signed bytes. SecurityError for anything else. Does not check whether the authority is trusted."""
        if len(signed) > LONGEST_LIST:
            raise SecurityError(f"a list of revoked certificates of {len(signed):,} bytes; {LONGEST_LIST:,} are allowed")
        packed, authority, signature = unsealed(signed, WHAT)
        if not signing.is_signed(authority, PURPOSE, packed, signature):
            raise SecurityError("the signature of a list of revoked certificates is wrong")
        fields = unpacked(packed, WHAT)
        if not (
            isinstance(fields, dict)
            and is_number(fields.get("number"))
            and isinstance(fields.get("serials"), list)
            and all(map(is_name, fields["serials"]))
        ):
            raise SecurityError(f"a list of revoked certificates is {quoted(fields)}")
        return cls(authority, fields["number"], frozenset(fields["serials"]), signed)

    def gives_way_to(self, held: bytes) -> bool:
        """Whether an engine should keep `held` instead of this list: it is a list of this authority, and not older."""
        if held == self.signed:
            return True
        try:
            other = Revocations.from_bytes(held)
        except SecurityError:
            return False
        return other.authority == self.authority and other.number >= self.number


def newest(authorities: frozenset[bytes], lists: Iterable[Revocations]) -> dict[bytes, Revocations]:
    """The newest list of each of these authorities. Of two with the same number, the first."""
    found: dict[bytes, Revocations] = {}
    for one in lists:
        held = found.get(one.authority)
        if one.authority in authorities and (held is None or one.number > held.number):
            found[one.authority] = one
    return found
