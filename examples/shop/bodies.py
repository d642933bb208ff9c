"""Checks the bodies of requests, field by field.

Rule 1: no I/O here; each function takes a decoded JSON body, and returns arguments for a service's method.
Rule 2: a wrong field raises BadRequest, which quotes the value and says what is needed. Unknown fields are left out.
"""

from __future__ import annotations

from typing import Any

from zmqservices.exceptions import BadRequest

#: The longest id or title, in characters. The database column of `orders` holds no more.
MAX_TEXT = 50
#: The largest quantity. It is larger than any stock, and every database can store it.
MAX_NUMBER = 1_000_000


def product(body: Any) -> dict[str, Any]:
    """Check a product such as `{"id": "zeppelin", "title": "Zeppelin NT", "in_stock": 3}`."""
    fields = _object(body, "the body")
    return {
        "id": _text(fields, "id"),
        "title": _text(fields, "title"),
        "in_stock": _number(fields, "in_stock", least=0),
    }


def order(body: Any) -> list[dict[str, Any]]:
    """Return the lines of an order such as `{"lines": [{"product": "zeppelin", "quantity": 1}]}`."""
    lines = _object(body, "the body").get("lines")
    if not isinstance(lines, list) or not lines:
        raise BadRequest(f"lines is {lines!r:.80}; a list with at least one line is needed")
    return [_line(_object(line, "a line")) for line in lines]


def _line(fields: dict[str, Any]) -> dict[str, Any]:
    return {"product": _text(fields, "product"), "quantity": _number(fields, "quantity", least=1)}


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRequest(f"{what} is {value!r:.80}; an object is needed")
    return value


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT:
        raise BadRequest(f"{name} is {value!r:.80}; a text of 1 to {MAX_TEXT} characters is needed")
    return value


def _number(fields: dict[str, Any], name: str, least: int) -> int:
    value = fields.get(name)
    # In Python, JSON's true is an int as well.
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_NUMBER:
        raise BadRequest(f"{name} is {value!r:.80}; a whole number from {least} to {MAX_NUMBER} is needed")
    return value
