"""The folder of one node: its keys, its certificate, and the authorities that it trusts.

Internal.

    node.key          its private key for connections, readable only by its owner
    node.signing      its private key for signatures, readable only by its owner
    node.certificate  its certificate, signed by the authority
    authorities       the public keys of the authorities that it trusts
    registry          the certificates of the cluster's registries
    revoked           lists of revoked certificates; may be missing
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from discovery.exceptions import SecurityError
from discovery.security import files, signing
from discovery.security.certificates import Certificate
from discovery.security.registries import RegistryCertificate, merged, registry_certificate, usable
from discovery.security.revocations import Revocations, newest
from discovery.security.signing import KEY_LENGTH, KeyPair
from discovery.security.verdicts import SKEW, Refusal, Trust

NODE_KEY, NODE_SIGNING, NODE_CERTIFICATE, AUTHORITIES, REGISTRY, REVOKED = (
    "node.key", "node.signing", "node.certificate", "authorities", "registry", "revoked",
)  # fmt: skip
#: The kinds of lines in these files.
PRIVATE_KEY_LINE, CERTIFICATE_LINE, AUTHORITY_LINE, REVOKED_LINE = "private-key", "certificate", "authority", "revoked"
#: The most authorities that a process trusts. Each may have a list of revoked certificates, which the protocols have room for.
MOST_AUTHORITIES = 8


@dataclass(unsafe_hash=True)
class Keys:
    """A node's keys and its trust. Hashable; equal if the keys are the same. `repr` shows no private key.

    The folder and the private keys never change. The rest may change while the process runs, see `discovery.security.renewal`.
    """

    folder: str
    pair: KeyPair = field(repr=False)
    #: The keys with which the node signs its records.
    signing: KeyPair = field(repr=False)
    #: The certificate in the form in which it is sent to other nodes.
    signed: bytes = field(repr=False, compare=False)
    certificate: Certificate = field(compare=False)
    trust: Trust = field(repr=False, compare=False)
    #: The certificates of the registries, the newest first; empty if the folder has none that holds.
    registries: tuple[RegistryCertificate, ...] = field(default=(), repr=False, compare=False)
    #: Grows with each change.
    generation: int = field(default=0, repr=False, compare=False)

    @classmethod
    def read(cls, folder: str | Path, clock: Callable[[], float] = time.time) -> Keys:
        """The keys in this folder. SecurityError, which names the file, if one is missing, open to others, or does not fit."""
        path = Path(folder)
        if not path.is_dir():
            raise SecurityError(f"{str(folder)!r} is no folder of keys; `zmqservices keys issue NAME` makes one")
        pair = signing.node_keys(_private_key(path / NODE_KEY))
        trust = read_trust(path)
        signed = files.read(path / NODE_CERTIFICATE, CERTIFICATE_LINE)[0]
        try:
            certificate = trust.believed(signed, pair.public, clock())
        except Refusal as exc:
            raise SecurityError(f"{path / NODE_CERTIFICATE} cannot be used: {exc}") from exc
        signing_pair = _signing_pair(path, certificate)
        registries = read_registries(path, trust, clock())[0]
        if certificate.is_registry:
            registries.append(registry_certificate(signed, trust, clock()))
        known = merged(registries, trust.authorities, clock())
        return cls(str(folder), pair, signing_pair, signed, certificate, trust, known)

    @property
    def registry_keys(self) -> tuple[bytes, ...]:
        """The public keys that a registry may have now; empty if no certificate of a registry holds."""
        holding = (one.key for one in self.registries if not self.refusal_of(one.signed))
        return tuple(dict.fromkeys(holding))

    def refusal_of_registry(self, key: bytes) -> str:
        """Why a registry with this key is not believed, or not any more; "" if it is."""
        refusals = [self.refusal_of(one.signed) for one in self.registries if one.key == key]
        if not refusals:
            return "no certificate of a registry for its key is trusted any more"
        return "" if "" in refusals else refusals[0]

    def why_no_registry(self) -> str:
        """A sentence for the case that `registry_keys` is empty."""
        path = Path(self.folder)
        try:
            why = read_registries(path, self.trust, time.time())[1]
        except SecurityError as exc:
            return str(exc)
        mend = f"copy the file {REGISTRY!r} from the authority's folder of this node"
        return f"{self.folder} has no certificate of the registries, the file {REGISTRY!r}, that holds{why and ': '}{why}; {mend}"

    def days_left(self, now: float) -> float:
        """Days until the certificate ends."""
        return (self.certificate.ends - now) / 86_400

    @staticmethod
    def has_ended(certificate: Certificate) -> bool:
        """Whether a certificate that was believed earlier has ended."""
        return time.time() > certificate.ends + SKEW

    def believed(self, signed: object, key: bytes) -> Certificate:
        """The certificate that the holder of `key` shows, if it is valid now. Raises Refusal otherwise."""
        return self.trust.believed(signed, key, time.time())

    def refusal_of(self, signed: object) -> str:
        """Why a certificate that was believed earlier is not believed any more; "" if it is."""
        try:
            self.trust.confirm(signed, time.time())
        except Refusal as exc:
            return str(exc)
        return ""


def read_trust(path: Path) -> Trust:
    """The authorities in a node's folder, and their lists of revoked certificates."""
    authorities = frozenset(files.read(path / AUTHORITIES, AUTHORITY_LINE))
    if any(len(key) != KEY_LENGTH for key in authorities):
        raise SecurityError(f"{path / AUTHORITIES} has a key that is not {KEY_LENGTH} bytes long")
    if len(authorities) > MOST_AUTHORITIES:
        raise SecurityError(
            f"{path / AUTHORITIES} has {len(authorities)} authorities, and {MOST_AUTHORITIES} at most can be trusted; remove "
            "those whose certificates have ended or been replaced"
        )
    lists = files.read(path / REVOKED, REVOKED_LINE) if (path / REVOKED).exists() else []
    return Trust(authorities, newest(authorities, (_revocations(path / REVOKED, signed) for signed in lists)))


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


def read_registries(path: Path, trust: Trust, now: float) -> tuple[list[RegistryCertificate], str]:
    """The registries' certificates in the folder that hold, and why the last of the others does not."""
    file = path / REGISTRY
    if not file.exists():
        return [], ""
    lines = files.read(file, CERTIFICATE_LINE)
    try:
        return usable(lines, trust, now)
    except SecurityError as exc:
        raise SecurityError(f"{file} cannot be used: {exc}") from exc
