"""Checks how deep a JSON value is nested, so that a value too deep for Python to write or compare can be refused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def is_deeper(value: object, levels: int) -> bool:
    """Whether the lists and mappings of a JSON value are nested on more than `levels` levels."""
    level = [value]
    for _ in range(levels + 1):
        level = [item for one in level for item in _items(one)]
        if not level:
            return False
    return True


def may_be_deeper(text: str | bytes, levels: int) -> bool:
    """Whether a JSON text has enough brackets to be nested so deep. Counting them costs little compared to reading the text."""
    if isinstance(text, str):
        return text.count("[") + text.count("{") > levels
    return text.count(b"[") + text.count(b"{") > levels


def _items(value: object) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
