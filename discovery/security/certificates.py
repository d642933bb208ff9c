"""A certificate: an authority's signed statement about a node's key and permissions. Pure: no clock, no files.

Internal.

Rule 1: the packed bytes are signed. They are never packed again, so fields of a newer release survive an older one, and the
signature stays valid.
Rule 2: an unknown field is ignored, and gives no permission. A known field with a wrong value makes the whole certificate
invalid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgpack

from discovery.exceptions import SecurityError
from discovery.model import LONGEST_NAME, is_name, quoted
from discovery.security import signing
from discovery.security.sealed import Sealed, unpacked, unsealed
from discovery.security.signing import KEY_LENGTH, KeyPair

PURPOSE = "zmqservices certificate 1"
WHAT = "a certificate"
#: The most bytes of a signed certificate, which must fit into the first message of a connection.
LONGEST_CERTIFICATE = 8192
#: The most patterns in one list.
MOST_PATTERNS = 256
#: Permissions, each a list of patterns; see `discovery.security.permissions`.
PERMISSIONS = ("serves", "calls", "publishes", "handles", "registers", "administers")


@dataclass(frozen=True, slots=True)
class Certificate:
    """The node `name`, whose public key is `key`, may do this from `starts` until `ends` (seconds since 1970).

    `signing_key`: the key that verifies the node's signatures; empty in certificates of earlier releases. `is_registry`: the node
    may keep the directory.
    """

    name: str
    key: bytes
    serial: str
    starts: float
    ends: float
    serves: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    publishes: tuple[str, ...] = ()
    handles: tuple[str, ...] = ()
    registers: tuple[str, ...] = ()
    administers: tuple[str, ...] = ()
    is_registry: bool = False
    signing_key: bytes = b""

    def pack(self) -> bytes:
        """The bytes that are signed."""
        fields: dict[str, Any] = {
            "name": self.name,
            "key": self.key,
            "serial": self.serial,
            "from": self.starts,
            "until": self.ends,
            **{name: list(getattr(self, name)) for name in PERMISSIONS},
            "registry": self.is_registry,
            "signing_key": self.signing_key,
        }
        packed: bytes = msgpack.packb(fields)
        return packed

    @classmethod
    def unpack(cls, packed: bytes) -> Certificate:
        """The certificate that `pack` made. Raises SecurityError for anything else."""
        fields = unpacked(packed, WHAT)
        if not isinstance(fields, Mapping):
            raise SecurityError(f"a certificate is {quoted(fields)}; a map is needed")
        for name, (is_right, wanted) in _FIELDS.items():
            if not is_right(fields.get(name)):
                raise SecurityError(f"{name} of a certificate is {quoted(fields.get(name))}; {wanted} is needed")
        permissions: Any = {name: tuple(fields.get(name) or ()) for name in PERMISSIONS}
        return cls(
            name=fields["name"],
            key=fields["key"],
            serial=fields["serial"],
            starts=fields["from"],
            ends=fields["until"],
            is_registry=fields.get("registry") is True,
            signing_key=fields.get("signing_key") or b"",
            **permissions,
        )


@dataclass(frozen=True, slots=True)
class SignedCertificate:
    """A certificate with the signature of the authority whose public key is `authority`. The signature is not verified yet."""

    packed: bytes
    authority: bytes
    signature: bytes

    def to_bytes(self) -> bytes:
        """The bytes that are sent, and written to files."""
        return Sealed(self.packed, self.authority, self.signature).to_bytes()

    @classmethod
    def from_bytes(cls, signed: object) -> SignedCertificate:
        """The certificate that `to_bytes` packed. SecurityError for anything else."""
        if not isinstance(signed, bytes) or len(signed) > LONGEST_CERTIFICATE:
            length = f"{len(signed):,} bytes" if isinstance(signed, bytes) else type(signed).__name__
            raise SecurityError(f"a certificate is {length}; at most {LONGEST_CERTIFICATE:,} bytes are needed")
        return cls(*unsealed(signed, WHAT))

    @property
    def is_authentic(self) -> bool:
        """Whether `authority` signed it. This does not say whether that authority is trusted."""
        return signing.is_signed(self.authority, PURPOSE, self.packed, self.signature)


def issue(certificate: Certificate, authority: KeyPair) -> SignedCertificate:
    """Sign the certificate. SecurityError for wrong fields, or too many bytes."""
    for name in PERMISSIONS:
        for pattern in getattr(certificate, name):
            if not is_pattern(pattern):
                raise SecurityError(
                    f"{name} of the certificate has {quoted(pattern)}; a pattern such as 'orders.*' is needed, of 1 to "
                    f"{LONGEST_NAME} printable characters"
                )
    packed = certificate.pack()
    Certificate.unpack(packed)
    signed = SignedCertificate(packed, authority.public, signing.sign(authority, PURPOSE, packed))
    if len(signed.to_bytes()) > LONGEST_CERTIFICATE:
        raise SecurityError(
            f"the certificate of {certificate.name!r} takes {len(signed.to_bytes()):,} bytes; {LONGEST_CERTIFICATE:,} are "
            "allowed: use patterns such as 'orders.*'"
        )
    return signed


def is_pattern(value: object) -> bool:
    """Whether this can be an entry in a list of permissions."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and value.isprintable()


def _is_patterns(value: object) -> bool:
    return value is None or isinstance(value, list) and len(value) <= MOST_PATTERNS and all(map(is_pattern, value))


def is_time(value: object) -> bool:
    """Whether this is a time in seconds since 1970."""
    return (type(value) is int or type(value) is float) and math.isfinite(value) and value >= 0


def _is_signing_key(value: object) -> bool:
    return value is None or isinstance(value, bytes) and len(value) in (0, KEY_LENGTH)


#: For each field a test of its value, and the expected value in words.
_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (lambda value: is_name(value) and value.isprintable(), "a name"),
    "key": (lambda value: isinstance(value, bytes) and len(value) == KEY_LENGTH, f"a key of {KEY_LENGTH} bytes"),
    "signing_key": (_is_signing_key, f"a key of {KEY_LENGTH} bytes"),
    "serial": (lambda value: is_name(value) and value.isprintable(), "a text"),
    "from": (is_time, "a time in seconds since 1970"),
    "until": (is_time, "a time in seconds since 1970"),
    **dict.fromkeys(PERMISSIONS, (_is_patterns, f"a list of {MOST_PATTERNS} patterns at most")),
}
