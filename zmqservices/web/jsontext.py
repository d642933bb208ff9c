"""Reads JSON of clients with bounds, so that every value that was read can be written again.

Internal. Services use `zmqservices.web.handlers`.

Rule 1: pure. A text goes in, its value or a ValueError comes out.
"""

from __future__ import annotations

import json
import math
from typing import Any

from zmqservices.wire.nesting import is_deeper, may_be_deeper

#: The deepest nesting of arrays and objects.
MAX_NESTING = 100


def loads(text: str | bytes, **options: Any) -> Any:
    """The value of a JSON text.

    Raises ValueError for malformed JSON, and for a value that cannot be written again, such as 1e999 or a thousand nested arrays.
    """
    try:
        value = json.loads(text, parse_float=_finite, **options)
    except RecursionError:
        raise ValueError(f"more than {MAX_NESTING} arrays or objects are within each other") from None
    if may_be_deeper(text, MAX_NESTING) and is_deeper(value, MAX_NESTING):
        raise ValueError(f"more than {MAX_NESTING} arrays or objects are within each other")
    return value


def dumps(value: Any, **options: Any) -> str:
    """As `json.dumps`. With `loads` and `dumps`, werkzeug accepts this module for its JSON."""
    return json.dumps(value, **options)


def no_constant(name: str) -> None:
    """For `parse_constant`: refuse NaN and Infinity, which Python reads although they are not JSON."""
    raise ValueError(f"{name} is no number")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("a number is larger than any that is known here")
    return number

