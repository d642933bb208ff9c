"""Bytes that an authority signed, in the form in which they are sent: msgpack of [bytes, public key, signature].

Internal. The signed bytes are sent unchanged: to pack them again could change them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgpack

from discovery.exceptions import SecurityError
from discovery.security.signing import KEY_LENGTH, SIGNATURE_LENGTH


class Sealed(NamedTuple):
    """Bytes with the signature of an authority. Neither the signature nor the authority is checked yet."""

    packed: bytes
    authority: bytes
    signature: bytes

    def to_bytes(self) -> bytes:
        """The bytes that are sent, and written to files."""
        packed: bytes = msgpack.packb(list(self))
        return packed


def unsealed(signed: bytes, what: str) -> Sealed:
    """The parts that `to_bytes` packed. SecurityError, which calls it `what`, for anything else."""
    parts = unpacked(signed, what)
    if not (
        isinstance(parts, list)
        and len(parts) == 3
        and all(isinstance(part, bytes) for part in parts)
        and len(parts[1]) == KEY_LENGTH
        and len(parts[2]) == SIGNATURE_LENGTH
    ):
        raise SecurityError(f"{what} is needed, and these bytes are none")
    return Sealed(*parts)


def unpacked(packed: bytes, what: str) -> Any:
    """The value in msgpack bytes. SecurityError, which calls it `what`, for anything else."""
    try:
        return msgpack.unpackb(packed, raw=False, strict_map_key=True)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as exc:
        raise SecurityError(f"{what} is needed, and these bytes are none: {exc!r:.80}") from exc
