"""Decides whether a certificate is believed. Pure: the time is an argument.

Internal.

Rule 1: a certificate is believed only for the key that its holder has proven.
Rule 2: only the first reason is reported. A signature is checked before the fields that it covers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from discovery.exceptions import SecurityError
from discovery.security.certificates import Certificate, SignedCertificate
from discovery.security.revocations import Revocations

#: Seconds by which the clocks of two hosts may differ.
SKEW = 60.0


class Refusal(SecurityError):
    """A certificate, record or note is not believed. `reason` is one word for a counter; the text is a sentence for a log."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True)
class Trust:
    """The trusted authorities, by their public keys, and their lists of revoked certificates.

    There are two authorities while one replaces the other.
    """

    authorities: frozenset[bytes]
    revoked: Mapping[bytes, Revocations] = field(default_factory=dict)

    def believed(self, signed: object, key: bytes, now: float) -> Certificate:
        """The certificate, if it is valid for `key` at `now`, in seconds since 1970. Raises Refusal otherwise."""
        if signed is None:
            raise Refusal("missing", "it shows no certificate; give it the SECURITY folder that `zmqservices keys issue` makes")
        try:
            envelope = SignedCertificate.from_bytes(signed)
            if envelope.authority not in self.authorities:
                raise Refusal(
                    "authority",
                    f"its certificate is signed by authority {short(envelope.authority)}, which is not trusted here; "
                    f"trusted: {', '.join(sorted(map(short, self.authorities)))}",
                )
            if not envelope.is_authentic:
                raise Refusal("signature", "the signature of its certificate is wrong")
            certificate = Certificate.unpack(envelope.packed)
        except Refusal:
            raise
        except SecurityError as exc:
            raise Refusal("junk", str(exc)) from exc
        what = f"the certificate {certificate.serial} of {certificate.name!r}"
        if certificate.key != key:
            raise Refusal("key", f"{what} is for the key {short(certificate.key)}, and the peer has {short(key)}")
        check_time(certificate, now)
        self._check_revoked(envelope.authority, certificate)
        return certificate

    def confirm(self, signed: object, now: float) -> None:
        """Raise Refusal if a certificate that was believed earlier is not valid any more. Does not verify the signature again."""
        envelope = SignedCertificate.from_bytes(signed)
        if envelope.authority not in self.authorities:
            raise Refusal("authority", f"the authority {short(envelope.authority)} of its certificate is not trusted any more")
        certificate = Certificate.unpack(envelope.packed)
        check_time(certificate, now)
        self._check_revoked(envelope.authority, certificate)

    def _check_revoked(self, authority: bytes, certificate: Certificate) -> None:
        revoked = self.revoked.get(authority)
        if revoked is not None and certificate.serial in revoked.serials:
            raise Refusal("revoked", f"the certificate {certificate.serial} of {certificate.name!r} was revoked")


def check_time(certificate: Certificate, now: float) -> None:
    """Raise Refusal unless the certificate is valid at the time `now`."""
    what = f"the certificate {certificate.serial} of {certificate.name!r}"
    if now < certificate.starts - SKEW:
        raise Refusal("early", f"{what} holds only in {certificate.starts - now:.0f} s from now; are the clocks right?")
    if now > certificate.ends + SKEW:
        raise Refusal("expired", f"{what} ended {now - certificate.ends:.0f} s ago; `zmqservices keys renew` makes another")


def short(key: bytes) -> str:
    """The beginning of a public key, for people to compare."""
    return key[:8].hex()
