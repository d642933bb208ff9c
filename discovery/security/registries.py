"""The certificates of a cluster's registries, as one process knows them. Pure: the time is an argument.

Internal.

Rule 1: a registry is known by a certificate of an authority, not by a name or an address. Each registry may have its own key, or
all may share one.
Rule 2: of two certificates of one authority for one key, the one that was issued later counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from discovery.exceptions import SecurityError
from discovery.security.certificates import Certificate, SignedCertificate
from discovery.security.verdicts import SKEW, Refusal, Trust

#: The most certificates of registries that a process keeps; those that were issued last are kept. A client has 16 registries at
#: most, and during a change of the authority each has two certificates.
MOST_REGISTRIES = 32
#: Why a certificate of a registry may be left out, although nothing is wrong with the file or the message that has it.
_PASSING = ("authority", "expired", "early", "revoked")


class RegistryCertificate(NamedTuple):
    """A certificate of a registry whose signature was verified. `signed`: in the form in which it is sent."""

    signed: bytes
    authority: bytes
    certificate: Certificate

    @property
    def key(self) -> bytes:
        """The public key with which the registry encrypts its connections."""
        return self.certificate.key


def registry_certificate(signed: bytes, trust: Trust, now: float) -> RegistryCertificate:
    """The certificate in signed bytes. Raises Refusal if it is not believed, SecurityError if it is no registry's."""
    envelope = SignedCertificate.from_bytes(signed)
    certificate = trust.believed(signed, Certificate.unpack(envelope.packed).key, now)
    if not certificate.is_registry:
        raise SecurityError("it is not that of a registry")
    return RegistryCertificate(signed, envelope.authority, certificate)


def usable(lines: Iterable[bytes], trust: Trust, now: float) -> tuple[list[RegistryCertificate], str]:
    """The certificates of registries that hold now, and why the last of the others does not. Raises as `registry_certificate`."""
    found, why = [], ""
    for signed in lines:
        try:
            found.append(registry_certificate(signed, trust, now))
        except Refusal as exc:
            if exc.reason not in _PASSING:
                raise
            why = str(exc)
    return found, why


def merged(
    certificates: Iterable[RegistryCertificate], authorities: frozenset[bytes], now: float
) -> tuple[RegistryCertificate, ...]:
    """The certificates that are kept of these, by authorities that are trusted: the last for each key, the newest first."""
    last: dict[tuple[bytes, bytes], RegistryCertificate] = {}
    for one in sorted(certificates, key=_age):
        if one.authority in authorities and one.certificate.ends + SKEW >= now:
            last[one.authority, one.key] = one
    return tuple(sorted(last.values(), key=_age, reverse=True)[:MOST_REGISTRIES])


def _age(one: RegistryCertificate) -> tuple[float, float, str]:
    return one.certificate.starts, one.certificate.ends, one.certificate.serial
