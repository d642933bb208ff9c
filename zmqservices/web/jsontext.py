"""JSON that clients send: read with bounds, so that whatever was read can be handed on and written again.

Internal. Services use `zmqservices.web.handlers`.

Rule 1: pure; a text in, its value or a ValueError out.
"""

from __future__ import annotations

import json
import math
from typing import Any

from zmqservices.wire.nesting import is_deeper, may_be_deeper

#: Arrays and objects within each other.
MAX_NESTING = 100


def loads(text: str | bytes, **options: Any) -> Any:
    """The value of a JSON text. Raises ValueError where it is none, or holds what cannot be written again: 1e999, a thousand
    arrays within each other."""
    try:
        value = json.loads(text, parse_float=_finite, **options)
    except RecursionError:
        raise ValueError(f"more than {MAX_NESTING} arrays or objects are within each other") from None
    if may_be_deeper(text, MAX_NESTING) and is_deeper(value, MAX_NESTING):
        raise ValueError(f"more than {MAX_NESTING} arrays or objects are within each other")
    return value


def dumps(value: Any, **options: Any) -> str:
    """As `json.dumps`; beside `loads` it makes this module one that werkzeug takes for its JSON."""
    return json.dumps(value, **options)


def no_constant(name: str) -> None:
    """For `parse_constant`: NaN and Infinity are no JSON, though Python reads them."""
    raise ValueError(f"{name} is no number")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("a number is larger than any that is known here")
    return number

