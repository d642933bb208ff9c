"""Signatures (Ed25519, RFC 8032) and key pairs of nodes (Curve25519, as CurveZMQ uses them), by the library `cryptography`.

Internal. The only file that imports `cryptography`; it comes with the extra `zmqservices[security]`.

All keys are 32 raw bytes. Every signed text begins with its purpose, so that a signature is valid for one kind of text only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from discovery.exceptions import SecurityError

EXTRA = "zmqservices[security]"
KEY_LENGTH, SIGNATURE_LENGTH = 32, 64


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key, which `repr` does not show, and its public key."""

    private: bytes = field(repr=False)
    public: bytes


def new_signing_keys() -> KeyPair:
    """A new pair for signatures: of an authority, or of a node for its records."""
    ed25519 = _library("ed25519")
    private = ed25519.Ed25519PrivateKey.generate()
    return KeyPair(private.private_bytes_raw(), private.public_key().public_bytes_raw())


def new_node_keys() -> KeyPair:
    """A new pair for the connections of a node."""
    x25519 = _library("x25519")
    private = x25519.X25519PrivateKey.generate()
    return KeyPair(private.private_bytes_raw(), private.public_key().public_bytes_raw())


def node_keys(private: bytes) -> KeyPair:
    """The pair with this private key, for the connections of a node."""
    x25519 = _library("x25519")
    return KeyPair(private, x25519.X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw())


def signing_keys(private: bytes) -> KeyPair:
    """The pair with this private key, for signatures."""
    ed25519 = _library("ed25519")
    return KeyPair(private, ed25519.Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw())


def sign(keys: KeyPair, purpose: str, text: bytes) -> bytes:
    """The signature of `text` for `purpose`."""
    ed25519 = _library("ed25519")
    signature: bytes = ed25519.Ed25519PrivateKey.from_private_bytes(keys.private).sign(_signed(purpose, text))
    return signature


def is_signed(public: bytes, purpose: str, text: bytes, signature: bytes) -> bool:
    """Whether the holder of the key `public` signed `text` for `purpose`."""
    ed25519 = _library("ed25519")
    from cryptography.exceptions import InvalidSignature

    try:
        ed25519.Ed25519PublicKey.from_public_bytes(public).verify(signature, _signed(purpose, text))
    except (InvalidSignature, ValueError):
        return False
    return True


def _signed(purpose: str, text: bytes) -> bytes:
    return purpose.encode() + b"\0" + text


def _library(name: str) -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519, x25519
    except ImportError as exc:
        raise SecurityError(
            f"signatures need the library cryptography, which is not installed; install it with: pip install '{EXTRA}'"
        ) from exc
    return {"ed25519": ed25519, "x25519": x25519}[name]
