"""What an authority signed, as it travels: [packed, the authority's public key, its signature], packed by msgpack.

Internal. What was signed is carried as the bytes that were signed: to pack it again could change them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgpack

from discovery.exceptions import SecurityError
from discovery.security.signing import KEY_LENGTH, SIGNATURE_LENGTH


class Sealed(NamedTuple):
    """Bytes that an authority signed. Whether the signature is right, and the authority trusted, are other questions."""

    packed: bytes
    authority: bytes
    signature: bytes

    def to_bytes(self) -> bytes:
        """As it travels, and as it stands in a file."""
        packed: bytes = msgpack.packb(list(self))
        return packed


def unsealed(signed: bytes, what: str) -> Sealed:
    """What `to_bytes` made. Raises SecurityError, which calls it `what`, for anything else."""
    parts = unpacked(signed, what)
    if not (
        isinstance(parts, list)
        and len(parts) == 3
        and all(isinstance(part, bytes) for part in parts)
        and len(parts[1]) == KEY_LENGTH
        and len(parts[2]) == SIGNATURE_LENGTH
    ):
        raise SecurityError(f"what is given as {what} is none")
    return Sealed(*parts)


def unpacked(packed: bytes, what: str) -> Any:
    """A msgpack value. Raises SecurityError, which calls it `what`, where it is none."""
    try:
        return msgpack.unpackb(packed, raw=False, strict_map_key=True)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as exc:
        raise SecurityError(f"what is given as {what} is none: {exc!r:.80}") from exc
