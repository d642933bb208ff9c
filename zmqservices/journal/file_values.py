"""Reads the values of a journal's file, which may be damaged."""

from __future__ import annotations

import json
from typing import Any

from zmqservices.journal.blocks import Damaged, Row


def text_or_bytes(raw: bytes) -> str | bytes:
    """The bytes of the file as a text. Bytes that are not valid UTF-8 stay bytes, so that the checks of types find the damage."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def read_json(text: Any) -> Any:
    """The value of a JSON text in the file. Raises Damaged for any other text."""
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as exc:
        raise Damaged(f"not the JSON that was written: {exc}") from exc


def read_row(found: tuple[Any, ...]) -> Row:
    """The summary of a block in a row of the file. Raises Damaged for a malformed row."""
    first, last, at, size, text = found
    types = read_json(text)
    if (
        not type(first) is type(last) is type(size) is int
        or type(at) is not float
        or type(types) is not dict
        or not all(type(count) is int for count in types.values())
        or first > last
    ):
        raise Damaged("the row of a block is malformed")
    return Row(first, last, at, size, types)
