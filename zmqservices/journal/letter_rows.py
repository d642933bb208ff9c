"""Packs a dead letter for the file: the event, and the error with a checksum of the whole row.

Internal. The checksum is one of the error's fields, because the table has no column for it. In a file of an older release, dead
letters may have no checksum and are accepted without one.
"""

from __future__ import annotations

import json
from typing import Any
from zlib import crc32

from zmqservices.journal.blocks import Damaged

#: The field of the error that holds the checksum. No serialized exception has a field of this name.
CHECKSUM = "checksum"


def sealed(name: str, seq: int, packed: bytes, attempts: int, error: dict[str, Any], buried_at: float) -> str:
    """The text of the error, with the checksum of the row."""
    # JSON turns every key into a text, so the checksum is computed from the JSON form.
    error = json.loads(json.dumps(error, default=str))
    error.pop(CHECKSUM, None)
    return json.dumps({**error, CHECKSUM: _checksum(name, seq, packed, attempts, error, buried_at)})


def unsealed(
    name: object, seq: object, packed: object, attempts: object, text: Any, buried_at: object, *, all_sealed: bool
) -> dict[str, Any]:
    """The error of a row. Raises Damaged for a damaged row. `all_sealed`: every row of the file must have its checksum."""
    try:
        error = json.loads(text)
    except (TypeError, ValueError, RecursionError) as exc:
        raise Damaged(f"the error of a dead letter is not the JSON that was written: {exc}") from exc
    if type(error) is not dict or type(packed) is not bytes:
        raise Damaged(f"dead letter {seq!r:.40} is malformed")
    expected = error.pop(CHECKSUM, None)
    if expected is None and not all_sealed:
        return error
    if expected != _checksum(name, seq, packed, attempts, error, buried_at):
        raise Damaged(f"dead letter {seq!r:.40} is not what was written")
    return error


def _checksum(
    name: object, seq: object, packed: bytes, attempts: object, error: dict[str, Any], buried_at: object
) -> int:
    return crc32(packed, crc32(repr((name, seq, attempts, buried_at, json.dumps(error))).encode("utf-8", "backslashreplace")))
