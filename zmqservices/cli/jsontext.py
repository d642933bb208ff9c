"""Any value that a method can return, as JSON for other programs to read.

What JSON has no word for becomes text: dates and times in ISO 8601, Decimal and UUID as they print, bytes in
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

#: What JSON leaves as it is, and a terminal obeys, or takes for the end of a line; found within texts only.
_CONTROL = re.compile("[\x7f-\x9f\u2028\u2029]")


def to_json(value: Any, indent: int | None = None) -> str:
    """The JSON text; any value at all has one."""
    text = json.dumps(plain(value), ensure_ascii=False, indent=indent, allow_nan=False)
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def plain(value: Any) -> Any:
    """The value, made of what JSON has words for."""
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


def _key(key: Any) -> str:
    made = plain(key)
    return made if isinstance(made, str) else json.dumps(made)


def _text(value: Any) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    return str(value)
