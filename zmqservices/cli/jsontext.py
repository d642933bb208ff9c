"""Converts any value that a method can return to JSON.

Values without a JSON type become text: dates and times in ISO 8601, Decimal and UUID as they print, bytes in
base64, numbers that are not finite by name. Tuples become lists, sets sorted lists.
"""

from __future__ import annotations

import base64
import datetime
import json
import math
import re
from collections.abc import Mapping
from typing import Any

#: Characters that JSON does not escape, although they control a terminal or end a line. They occur only in texts.
_CONTROL = re.compile("[\x7f-\x9f\u2028\u2029]")


def to_json(value: object, indent: int | None = None) -> str:
    """The JSON text of any value."""
    text = json.dumps(plain(value), ensure_ascii=False, indent=indent, allow_nan=False)
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def plain(value: object) -> Any:
    """The value, converted to types that JSON has."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {_key(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return [plain(item) for item in sorted(value, key=lambda item: (type(item).__name__, str(item)))]
    return _text(value)


def _key(key: object) -> str:
    made = plain(key)
    return made if isinstance(made, str) else json.dumps(made)


def _text(value: object) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    return str(value)
