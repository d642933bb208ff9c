"""Decides what each client may ask of a closed registry. Pure but for the clock.

Rule 1: the sender of a message is the holder of the key that its connection has proven.
Rule 2: a record belongs to the key that its instance's id begins with. No other key can register, renew or withdraw it.
Records, withdrawals and notes are signed. Those that readers would not believe are refused here, so that their writer is told.
Rule 3: every client with a certificate may read the directory.
"""

from __future__ import annotations

from dataclasses import dataclass

from discovery import protocol
from discovery.model import Note, Record
from discovery.security.certificates import Certificate
from discovery.security.envelopes import Verifier, owner_prefix
from discovery.security.keys import Keys
from discovery.security.permissions import Permission, may_register
from discovery.security.verdicts import Refusal

#: Certificates that are remembered, one for each key. When there are more, the oldest must be shown again.
MOST_CERTIFICATES = 20_000


class NotAdmitted(Exception):
    """A client must not make this request; the text names the client and the reason."""


@dataclass(slots=True)
class _Presented:
    """A certificate that was checked at `generation` of this registry's keys. `refusal`: why it is not valid any more."""

    certificate: Certificate
    signed: bytes
    generation: int
    refusal: str = ""


class Admission:
    """Decides for a registry with these keys."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._verifier = Verifier(keys)
        self._certificates: dict[bytes, _Presented] = {}

    def present(self, key: bytes, signed: bytes) -> None:
        """The holder of `key` shows its certificate. Raises NotAdmitted.

        A refused certificate does not replace the former one, which other processes with the same key may still use.
        """
        try:
            certificate = self._keys.believed(signed, key)
        except Refusal as exc:
            raise NotAdmitted(str(exc)) from exc
        if len(self._certificates) >= MOST_CERTIFICATES:
            del self._certificates[next(iter(self._certificates))]
        self._certificates.pop(key, None)
        self._certificates[key] = _Presented(certificate, signed, self._keys.generation)

    def certificate(self, key: bytes) -> Certificate:
        """The certificate of the holder of `key`. NotAdmitted if none was shown, or it has ended or is revoked."""
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

    def register(self, key: bytes, record: Record) -> Record:
        """The record as its node signed it. NotAdmitted unless the holder of `key` may list it."""
        certificate = self.certificate(key)
        _check(may_register(certificate, record.service))
        if record.public_key != key.hex():
            raise NotAdmitted(f"a record of {certificate.name!r} has another public key than the connection that it comes on")
        try:
            return self._verifier.record(record)
        except Refusal as exc:
            raise NotAdmitted(f"a record of {certificate.name!r}: {exc}") from exc

    def renew(self, key: bytes, message: protocol.Renew) -> list[str]:
        """Remove leases from the message that do not belong to its sender. Returns their instances. Raises NotAdmitted."""
        self.certificate(key)
        prefix = owner_prefix(key)
        others = [lease[0] for lease in message.leases if not lease[0].startswith(prefix)]
        message.leases = [lease for lease in message.leases if lease[0].startswith(prefix)]
        return others

    def withdraw(self, key: bytes, message: protocol.Withdraw) -> None:
        """Raise NotAdmitted unless the instance belongs to the holder of `key`, who has signed this withdrawal."""
        certificate = self.certificate(key)
        if not message.instance.startswith(owner_prefix(key)):
            raise NotAdmitted(f"the instance {message.instance[:100]!r} belongs to another node than {certificate.name!r}")
        try:
            namespace = self._verifier.withdrawal(message.signed, message.instance, (message.incarnation, message.version))
        except Refusal as exc:
            raise NotAdmitted(f"a withdrawal of {certificate.name!r}: {exc}") from exc
        message.namespace = namespace

    def put(self, key: bytes, notes: list[Note]) -> tuple[list[Note], str]:
        """The notes that their writers have signed and may write, whoever forwards them, and why the others are refused."""
        certificate = self.certificate(key)
        believed: list[Note] = []
        refused = ""
        for note in notes:
            try:
                believed.append(self._verifier.note(note))
            except Refusal as exc:
                refused = f"the note {note.key[:100]!r} that {certificate.name!r} sent: {exc}"
        return believed, refused


def _check(verdict: Permission) -> None:
    if not verdict:
        raise NotAdmitted(verdict.rule)


def request_of(message: object) -> int:
    """The number of a request, for its refusal; 0 for a message without one, after which the connection ends."""
    return getattr(message, "request", 0)

