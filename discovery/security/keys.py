"""The folder of one node: its key, its certificate, and whom it trusts.

Internal.

    node.key          its private key for connections; for its owner's eyes only
    node.signing      its private key for signatures; for its owner's eyes only, too
    node.certificate  what the authority says of it
    authorities       the public keys of the authorities that it trusts
    registry          the certificate of the cluster's registries
    revoked           certificates that are void; may be missing
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from discovery.exceptions import SecurityError
from discovery.security import files, signing
from discovery.security.certificates import Certificate, SignedCertificate
from discovery.security.revocations import Revocations
from discovery.security.signing import KEY_LENGTH, KeyPair
from discovery.security.verdicts import SKEW, Refusal, Trust

NODE_KEY, NODE_SIGNING, NODE_CERTIFICATE, AUTHORITIES, REGISTRY, REVOKED = (
    "node.key", "node.signing", "node.certificate", "authorities", "registry", "revoked",
)  # fmt: skip
#: What the lines of these files are.
PRIVATE_KEY_LINE, CERTIFICATE_LINE, AUTHORITY_LINE, REVOKED_LINE = "private-key", "certificate", "authority", "revoked"


@dataclass(unsafe_hash=True)
class Keys:
    """A node's keys and its trust. Equal where they are the same keys; hashable; shows no private key.

    The folder and the private key never change. The rest does while the process runs: see `discovery.security.renewal`.
    """

    folder: str
    pair: KeyPair = field(repr=False)
    #: What the node signs its records with.
    signing: KeyPair = field(repr=False)
    #: As it is shown to others.
    signed: bytes = field(repr=False, compare=False)
    certificate: Certificate = field(compare=False)
    trust: Trust = field(repr=False, compare=False)
    #: The public key of the registries; None where the folder has none.
    registry_key: bytes | None = field(default=None, repr=False, compare=False)
    #: Grows with each change.
    generation: int = field(default=0, repr=False, compare=False)

    @classmethod
    def read(cls, folder: str | Path, clock: Callable[[], float] = time.time) -> Keys:
        """The keys in this folder. Raises SecurityError, which names the file, for what is missing, open, or does not fit."""
        path = Path(folder)
        if not path.is_dir():
            raise SecurityError(f"{str(folder)!r} is no folder of keys; `zmqservices keys issue NAME` makes one")
        pair = signing.node_keys(_private_key(path / NODE_KEY))
        trust = read_trust(path)
        signed = files.read(path / NODE_CERTIFICATE, CERTIFICATE_LINE)[0]
        try:
            certificate = trust.believed(signed, pair.public, clock())
        except Refusal as exc:
            raise SecurityError(f"{path / NODE_CERTIFICATE} is of no use: {exc}") from exc
        signing_pair = _signing_pair(path, certificate)
        return cls(str(folder), pair, signing_pair, signed, certificate, trust, _registry_key(path, trust, clock()))

    def days_left(self, now: float) -> float:
        """Days until the certificate ends."""
        return (self.certificate.ends - now) / 86_400

    @staticmethod
    def has_ended(certificate: Certificate) -> bool:
        """Whether the time of a certificate, which was believed earlier, is over."""
        return time.time() > certificate.ends + SKEW

    def believed(self, signed: object, key: bytes) -> Certificate:
        """The certificate that a peer with the key `key` shows, where it holds now. Raises Refusal."""
        return self.trust.believed(signed, key, time.time())

    def refusal_of(self, signed: object) -> str:
        """Why a certificate that was believed earlier is not believed any more; "" where it is."""
        try:
            self.trust.confirm(signed, time.time())
        except Refusal as exc:
            return str(exc)
        return ""


def read_trust(path: Path) -> Trust:
    """The authorities of a node's folder, and the certificates that they revoked."""
    authorities = frozenset(files.read(path / AUTHORITIES, AUTHORITY_LINE))
    if any(len(key) != KEY_LENGTH for key in authorities):
        raise SecurityError(f"{path / AUTHORITIES} has a key that is not {KEY_LENGTH} bytes long")
    revoked: dict[bytes, Revocations] = {}
    if (path / REVOKED).exists():
        for signed in files.read(path / REVOKED, REVOKED_LINE):
            found = _revocations(path / REVOKED, signed)
            if found.authority in authorities and found.number >= revoked.get(found.authority, found).number:
                revoked[found.authority] = found
    return Trust(authorities, revoked)


def _revocations(path: Path, signed: bytes) -> Revocations:
    try:
        return Revocations.from_bytes(signed)
    except SecurityError as exc:
        raise SecurityError(f"{path}: {exc}") from exc


def _signing_pair(path: Path, certificate: Certificate) -> KeyPair:
    if not certificate.signing_key:
        raise SecurityError(
            f"{path / NODE_CERTIFICATE} names no key for signatures, which nodes need since records are signed; "
            f"`zmqservices keys renew {certificate.name}` makes one: copy {NODE_SIGNING} and {NODE_CERTIFICATE} from its "
            f"folder of the authority to {path}"
        )
    pair = signing.signing_keys(_private_key(path / NODE_SIGNING))
    if pair.public != certificate.signing_key:
        raise SecurityError(
            f"{path / NODE_SIGNING} is not the key that {NODE_CERTIFICATE} names for signatures; copy both files from the folder "
            "that the authority made"
        )
    return pair


def _private_key(path: Path) -> bytes:
    key = files.read_private(path, PRIVATE_KEY_LINE)
    if len(key) != KEY_LENGTH:
        raise SecurityError(f"{path} has a key that is not {KEY_LENGTH} bytes long")
    return key


def _registry_key(path: Path, trust: Trust, now: float) -> bytes | None:
    file = path / REGISTRY
    if not file.exists():
        return None
    signed = files.read(file, CERTIFICATE_LINE)[0]
    try:
        key = Certificate.unpack(SignedCertificate.from_bytes(signed).packed).key
        if not trust.believed(signed, key, now).is_registry:
            raise SecurityError("it is not that of a registry")
    except SecurityError as exc:
        raise SecurityError(f"{file} is of no use: {exc}") from exc
    return key
