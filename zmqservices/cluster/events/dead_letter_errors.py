"""Makes the error that is stored with a dead letter from the error that a member sent: plain, short and always writable.

Pure: no I/O, no clock.
"""

from __future__ import annotations

from typing import Any

from zmqservices.cluster.events.subscription import LONGEST_NAME

#: The most characters of each text of an error, and the most texts, that are stored with a dead letter.
LONGEST_ERROR, MOST_ERROR_TEXTS = 20_000, 16


def plain_error(error: dict[Any, Any]) -> dict[str, Any]:
    """The fields of `error` that can be stored: texts, numbers and None, each cut to a bounded length.

    `exc_type`, `exc_path`, `exc_args` and `value` are always present. Fields whose name is no text are left out.
    """
    kept: dict[str, Any] = {"exc_type": "Unknown", "exc_path": "", "exc_args": [], "value": ""}
    for key, value in list(error.items())[:MOST_ERROR_TEXTS]:
        if type(key) is not str or len(key) > LONGEST_NAME:
            continue
        if key == "exc_args":
            values = value if isinstance(value, (list, tuple)) else [value]
            kept[key] = [_plain(item) for item in values[:MOST_ERROR_TEXTS]]
        else:
            kept[key] = _plain(value)
    return kept


def _plain(value: object) -> Any:
    if value is None or type(value) in (bool, float) or (type(value) is int and -(2**63) <= value < 2**63):
        return value
    if type(value) is not str:
        # Not the repr of the value, because a peer may have sent a large or deeply nested one.
        return f"[a {type(value).__name__}]"
    text = value if len(value) <= LONGEST_ERROR else f"{value[:LONGEST_ERROR]}... ({len(value):,} characters)"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
