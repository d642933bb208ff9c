"""Who may ask a closed registry what. Pure but for the clock.

Rule 1: every message counts as said by the holder of the key that its connection has proven, and by nobody else.
Rule 2: a record belongs to the key that registered it, for as long as it is listed. Others can neither replace nor renew it, nor
withdraw it.
Rule 3: whoever has a certificate may read the directory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from discovery import protocol
from discovery.model import Note, Record
from discovery.security.certificates import Certificate
from discovery.security.keys import Keys
from discovery.security.permissions import OPERATORS_PREFIX, Permission, Verb, allows, may_register
from discovery.security.verdicts import Refusal

#: Certificates that are kept, one for each key; the eldest has to be shown again.
MOST_CERTIFICATES = 20_000
#: Owners that are kept, at most, before those of instances that are gone are dropped.
FIRST_PRUNE = 1000


class NotAdmitted(Exception):
    """A peer must not do what it asks for; the text says who and why."""


@dataclass(slots=True)
class _Presented:
    """A certificate that was believed when the keys of this registry were of `generation`. `refusal`: why it is not any more."""

    certificate: Certificate
    signed: bytes
    generation: int
    refusal: str = ""


class Admission:
    """`is_listed(instance)` says whether the registry lists it."""

    def __init__(self, keys: Keys, is_listed: Callable[[str], bool]) -> None:
        self._keys = keys
        self._is_listed = is_listed
        self._certificates: dict[bytes, _Presented] = {}
        #: The key that registered each instance.
        self._owners: dict[str, bytes] = {}
        self._prune_at = FIRST_PRUNE

    def present(self, key: bytes, signed: bytes) -> None:
        """The holder of `key` shows its certificate. Raises NotAdmitted."""
        self._certificates.pop(key, None)
        try:
            certificate = self._keys.believed(signed, key)
        except Refusal as exc:
            raise NotAdmitted(str(exc)) from exc
        if len(self._certificates) >= MOST_CERTIFICATES:
            del self._certificates[next(iter(self._certificates))]
        self._certificates[key] = _Presented(certificate, signed, self._keys.generation)

    def certificate(self, key: bytes) -> Certificate:
        """That of the holder of `key`. Raises NotAdmitted where none was shown, or where it has ended."""
        presented = self._certificates.get(key)
        if presented is None:
            raise NotAdmitted("it has shown no certificate")
        certificate = presented.certificate
        if presented.generation != self._keys.generation:
            presented.generation = self._keys.generation
            presented.refusal = self._keys.refusal_of(presented.signed)
        if presented.refusal:
            raise NotAdmitted(presented.refusal)
        if self._keys.has_ended(certificate):
            del self._certificates[key]
            raise NotAdmitted(f"the certificate {certificate.serial} of {certificate.name!r} has ended")
        return certificate

    def register(self, key: bytes, record: Record) -> None:
        """Raise NotAdmitted unless the holder of `key` may list this record."""
        certificate = self.certificate(key)
        _check(may_register(certificate, record.service))
        if record.public_key != key.hex():
            raise NotAdmitted(f"a record of {certificate.name!r} has another public key than the connection that it comes on")
        if self._is_listed(record.instance) and not self.owns(key, record.instance):
            raise NotAdmitted(f"the instance {record.instance[:100]!r} belongs to another node than {certificate.name!r}")
        if len(self._owners) >= self._prune_at:
            self._owners = {one: owner for one, owner in self._owners.items() if self._is_listed(one)}
            self._prune_at = 2 * len(self._owners) + FIRST_PRUNE
        self._owners[record.instance] = key

    def owns(self, key: bytes, instance: str) -> bool:
        """Whether a listed instance is that of the holder of `key`."""
        return self._owners.get(instance) == key

    def renew(self, key: bytes, message: protocol.Renew) -> list[str]:
        """Leave in the message only the leases that are its sender's; returns the other instances. Raises NotAdmitted."""
        self.certificate(key)
        others = [lease[0] for lease in message.leases if not self.owns(key, lease[0])]
        message.leases = [lease for lease in message.leases if self.owns(key, lease[0])]
        return others

    def withdraw(self, key: bytes, message: protocol.Withdraw) -> bool:
        """Whether there is something to withdraw. Raises NotAdmitted where that is another node's."""
        certificate = self.certificate(key)
        if not self._is_listed(message.instance):
            # Told to all subscribers, it could be a forged word about a record that other registries list.
            return False
        if not self.owns(key, message.instance):
            raise NotAdmitted(f"the instance {message.instance[:100]!r} belongs to another node than {certificate.name!r}")
        return True

    def put(self, key: bytes, note: Note) -> None:
        """Raise NotAdmitted unless the holder of `key` may write this note."""
        certificate = self.certificate(key)
        subject, _, _ = note.key.partition("\0")
        if not subject.startswith(OPERATORS_PREFIX):
            if not certificate.registers:
                raise NotAdmitted(f"the certificate of {certificate.name!r} registers nothing, so it writes no notes either")
            return
        source = subject.removeprefix(OPERATORS_PREFIX)
        publishes = allows(certificate, Verb.PUBLISH, source)
        if publishes:
            return
        pattern = note.value.get("pattern") if note.value is not None else None
        if not isinstance(pattern, str):
            raise NotAdmitted(f"a group of {source[:100]!r} is removed by those who publish its events: {publishes.rule}")
        _check(allows(certificate, Verb.HANDLE, source, pattern))


def _check(verdict: Permission) -> None:
    if not verdict:
        raise NotAdmitted(verdict.rule)


def request_of(message: Any) -> int:
    """The number of a request, for its refusal; 0 for a message without one, after which the connection ends."""
    return getattr(message, "request", 0)

