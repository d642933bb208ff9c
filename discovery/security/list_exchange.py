"""Lists of revoked certificates that two nodes pass on over a connection of their own, where no server of the directory does.

Internal. Pure but for what `renewal.learn` writes.

Each end tells the number of the list that it has of each authority, and sends the lists of which the other end has none or an
older one. So a list crosses a connection once at most. See HELLO and WELCOME in docs/protocol.rst.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from discovery.exceptions import SecurityError
from discovery.model import is_number
from discovery.security.keys import Keys
from discovery.security.renewal import learn
from discovery.security.revocations import Revocations

#: The keys of `info` in HELLO and WELCOME: the signed lists, and the number of each authority's list by its public key.
REVOKED, REVOCATIONS = "revoked", "revocations"
#: The most lists, and numbers, that one message may have.
MOST_LISTS = 16
#: The most bytes of the lists in one message. A node refuses a HELLO or WELCOME of more than 256 KiB. The longest list that an
#: authority makes has room.
MOST_SENT = 200 * 1024


class ListExchange:
    """One end of a connection. Nothing is sent before the other end has told its numbers."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        #: The numbers that the other end has told, or has been sent since; None until then.
        self._held: dict[bytes, int] | None = None

    def numbers(self) -> dict[bytes, int]:
        """The numbers of the lists that this process has."""
        return {authority: one.number for authority, one in self._keys.trust.revoked.items() if one.signed}

    def forget(self) -> None:
        """The connection has ended."""
        self._held = None

    def takes(self, info: Mapping[Any, Any] | None) -> bool:
        """Read the lists and numbers in the `info` of a message. Whether there were new lists. SecurityError for junk."""
        info = info or {}
        lists, numbers = info.get(REVOKED), info.get(REVOCATIONS)
        if isinstance(numbers, Mapping):
            if len(numbers) > MOST_LISTS or not all(isinstance(key, bytes) and is_number(numbers[key]) for key in numbers):
                raise SecurityError("the numbers of lists of revoked certificates are malformed")
            self._held = dict(numbers)
        if lists is None:
            return False
        if not isinstance(lists, list) or len(lists) > MOST_LISTS or not all(isinstance(one, bytes) for one in lists):
            raise SecurityError("lists of revoked certificates are malformed")
        return learn(self._keys, lists)

    @property
    def is_due(self) -> bool:
        """Whether the other end lacks a list."""
        return bool(self._lacking())

    def told(self) -> dict[str, Any]:
        """The fields of `info` for a message that is sent now: the numbers, and lists that the other end lacks.

        While `is_due`, another message must follow.
        """
        fields: dict[str, Any] = {REVOCATIONS: self.numbers()}
        sent: list[bytes] = []
        for one in self._lacking():
            if sum(map(len, sent)) + len(one.signed) <= MOST_SENT and self._held is not None:
                sent.append(one.signed)
                self._held[one.authority] = one.number
        if sent:
            fields[REVOKED] = sent
        return fields

    def _lacking(self) -> list[Revocations]:
        held = self._held
        if held is None:
            return []
        known = self._keys.trust.revoked.values()
        return [one for one in known if 0 < len(one.signed) <= MOST_SENT and one.number > held.get(one.authority, -1)]
