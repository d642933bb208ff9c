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


def unpack_some(frame: bytes, names: frozenset[str]) -> dict[str, Any]:
    """The values under these names in a map, without decoding the others. It ends when all are found: the rest is not checked.

    DirectoryProtocolError when the bytes up to there are no map in msgpack.
    """
    found: dict[str, Any] = {}
    missing = len(names)
    unpacker = msgpack.Unpacker(raw=False, strict_map_key=True, ext_hook=_no_extension)
    try:
        unpacker.feed(frame)
        read, skip = unpacker.unpack, unpacker.skip
        for _ in range(unpacker.read_map_header()):
            name = read()
            if name in names:
                found[name] = read()
                missing -= 1
                if not missing:
                    break
            else:
                skip()
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as exc:
        raise DirectoryProtocolError(f"a frame is not msgpack of this protocol: {exc!r:.120}") from exc
    return found


def _no_extension(code: int, data: bytes) -> Any:
    raise ValueError(f"extension {code} has no meaning here")
