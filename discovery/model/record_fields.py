"""The fields of a record, and which values each may have.

Internal.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from discovery.model.values import (
    LONGEST_NAME,
    LONGEST_TTL,
    NESTING,
    SHORTEST_TTL,
    STATES,
    is_map,
    is_name,
    is_number,
    is_optional_text,
    is_shallow,
    is_ttl,
)


def is_short(value: object) -> bool:
    """Whether this is a text no longer than a name; it may be empty."""
    return isinstance(value, str) and len(value) <= LONGEST_NAME


def is_weight(value: object) -> bool:
    """Whether this is a finite number that is not negative."""
    return (type(value) is int or type(value) is float) and math.isfinite(value) and value >= 0


def is_text_map(value: object) -> bool:
    """Whether this maps texts to texts."""
    if not isinstance(value, dict):
        return False
    for key, text in value.items():
        if not (isinstance(key, str) and isinstance(text, str)):
            return False
    return True


def is_map_of_maps(value: object) -> bool:
    """Whether this maps texts to maps."""
    return is_map(value) and all(is_map(item) for item in value.values()) and is_shallow(value)


#: For each field a test of its value, and the expected value in words.
FIELDS: dict[str, tuple[Callable[[object], bool], str]] = {
    "service": (is_name, "a name"),
    "instance": (is_name, "a name"),
    "node": (is_short, "a name"),
    "incarnation": (is_number, "a whole number"),
    "version": (is_number, "a whole number"),
    "namespace": (is_name, "a name"),
    "endpoints": (is_text_map, "a map of texts to texts"),
    "state": (lambda value: isinstance(value, str) and value in STATES, "one of " + ", ".join(STATES)),
    "ttl": (is_ttl, f"a number of seconds between {SHORTEST_TTL} and {LONGEST_TTL}"),
    "methods": (is_map_of_maps, "a map of names to maps"),
    "subscriptions": (lambda value: isinstance(value, list) and is_shallow(value), f"a list of {NESTING} levels at most"),
    "public_key": (is_optional_text, "a text or nothing"),
    "zone": (is_optional_text, "a text or nothing"),
    "weight": (is_weight, "a number"),
    "tags": (lambda value: is_map(value) and is_shallow(value), f"a map of texts, of {NESTING} levels at most"),
    "host": (is_short, "a text"),
    "pid": (is_number, "a whole number"),
}
