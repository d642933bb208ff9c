"""The keys in an answer of Consul, and its index.

Rule 1: no sockets, no threads, no clock here.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class KeyValue:
    """One key. `index`: that of its last change (ModifyIndex). `session`: the session that holds it, or empty."""

    key: str
    index: int
    session: str
    encoded: str = field(repr=False)

    @property
    def value(self) -> bytes:
        """The value, decoded each time, since most values of an answer are never looked at. Empty if it is not base64."""
        try:
            return base64.b64decode(self.encoded)
        except ValueError:
            return b""


def decode_keys(body: bytes) -> list[KeyValue]:
    """The keys in the body of an answer. ValueError for anything but a JSON list of keys."""
    items = json.loads(body)
    if not isinstance(items, list):
        raise ValueError("a list is needed")
    return [_key_value(item) for item in items]


def next_index(text: str, former: int) -> int:
    """The index for the next blocking query. ValueError for a text that is no number.

    An index lower than the former one becomes 0, as after a snapshot was restored. Any other is at least 1, as Consul asks for.
    """
    if not (text.isascii() and text.isdigit()):
        raise ValueError("a number is needed")
    index = max(1, int(text))
    return 0 if index < former else index


def _key_value(item: Any) -> KeyValue:
    if not isinstance(item, dict) or not isinstance(item.get("Key"), str):
        raise ValueError("a key is needed")
    index = item.get("ModifyIndex")
    encoded = item.get("Value")
    return KeyValue(
        item["Key"],
        index if isinstance(index, int) else 0,
        str(item.get("Session") or ""),
        encoded if isinstance(encoded, str) else "",
    )
