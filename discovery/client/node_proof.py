"""The proof of a node behind a bare address in a closed cluster: a key that the URL names, and a certificate for this key.

Internal.

The handshake proves the key. The WELCOME shows the certificate, which must be for this key and must name the service of each
record. So a record need not be signed: it comes from its node, over a connection on which no other process can write.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from discovery.client.key_choice import KeyChoice
from discovery.model import Record, quoted
from discovery.security.certificates import Certificate
from discovery.security.envelopes import owner_prefix
from discovery.security.keys import Keys
from discovery.security.list_exchange import ListExchange
from discovery.security.permissions import may_register
from discovery.security.verdicts import short


class NodeProof:
    """Checks the node at one address. `named`: the public keys that it may hold. `clock` returns seconds since 1970."""

    def __init__(self, keys: Keys, named: tuple[bytes, ...], clock: Callable[[], float] = time.time) -> None:
        self.keys = keys
        self._key_choice = KeyChoice(named)
        self._clock = clock
        self.lists = ListExchange(keys)
        self._signed: object = None
        self._certificate: Certificate | None = None
        #: The generations of our keys when the node was last believed, and when it was last checked.
        self._generation = self._checked = -1
        self._shown = b""

    @property
    def key(self) -> bytes:
        """The key for the next handshake, and of the node once it has succeeded."""
        return self._key_choice.key

    @property
    def problem(self) -> str:
        """A sentence for a handshake that failed although a server answered."""
        keys = self._key_choice.keys
        which = "the key that" if len(keys) == 1 else f"any of the {len(keys)} keys that"
        named = ", ".join(map(short, keys[:5]))
        return f"the handshake failed: it does not encrypt with {which} the directory URL names ({named}), or it ended just then"

    def accept_also(self, named: tuple[bytes, ...]) -> None:
        """The node may also hold one of these keys."""
        self._key_choice.offer(tuple(dict.fromkeys((*self._key_choice.keys, *named))))

    def try_next_key(self) -> bool:
        """Choose the next key after a failed handshake. False once every key has failed since the last success."""
        return self._key_choice.try_next()

    def shown(self) -> bytes:
        """The certificate of this process, which the caller sends now."""
        self._shown = self.keys.signed
        return self._shown

    def believe(self, signed: object) -> None:
        """Check the certificate that the node shows for its key. Raises Refusal."""
        self._key_choice.succeeded()
        generation = self.keys.generation
        self._certificate = self.keys.trust.believed(signed, self.key, self._clock())
        self._signed, self._generation = signed, generation

    def own(self, records: list[Record], skip: Callable[[str], None]) -> list[Record]:
        """The records that the node may list. `skip` is called with a sentence for each other record."""
        found = []
        for record in records:
            why = self._why_not(record)
            if why:
                skip(f"the record {quoted(record.instance)} of {quoted(record.service)}: {why}")
            else:
                found.append(record)
        return found

    def _why_not(self, record: Record) -> str:
        assert self._certificate is not None
        if record.public_key != self.key.hex():
            return f"it names the key {quoted(record.public_key, 16)}, and its node has {short(self.key)}"
        if not record.instance.startswith(owner_prefix(self.key)):
            return f"its id does not begin with {owner_prefix(self.key)!r}, as those of its node do"
        verdict = may_register(self._certificate, record.service)
        return "" if verdict else verdict.rule

    def is_stale(self) -> bool:
        """Whether our keys or the lists of revoked certificates have changed since the node was believed."""
        return self._generation != self.keys.generation

    def refusal(self) -> str:
        """Why the node is not believed any more; "" if it is, and `holds` must be called then."""
        self._checked = self.keys.generation
        return self.keys.refusal_of(self._signed)

    def holds(self) -> None:
        """Note that the node is still believed, as `refusal` has found."""
        self._generation = self._checked

    def must_show(self) -> bool:
        """Whether this process has a newer certificate than the one that it has shown, or a list that the node lacks."""
        return self._shown != self.keys.signed or self.lists.is_due
