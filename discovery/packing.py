"""msgpack as the directory uses it: a value that cannot be packed or unpacked is a DirectoryError.

Internal.
"""

from __future__ import annotations

from typing import Any

import msgpack

from discovery.exceptions import DirectoryError, DirectoryProtocolError


def pack(value: object) -> bytes:
    """`value` as msgpack; DirectoryError when msgpack cannot carry its type."""
    try:
        packed: bytes = msgpack.packb(value, use_bin_type=True)
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise DirectoryError(f"a record cannot be sent: {exc}") from exc
    return packed


def unpack(frame: bytes) -> Any:
    """The value in msgpack bytes; DirectoryProtocolError when they are not msgpack. Map keys are texts."""
    try:
        return msgpack.unpackb(frame, raw=False, strict_map_key=True, ext_hook=_no_extension)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as exc:
        raise DirectoryProtocolError(f"a frame is not msgpack of this protocol: {exc!r:.120}") from exc


def _no_extension(code: int, data: bytes) -> Any:
    raise ValueError(f"extension {code} has no meaning here")
