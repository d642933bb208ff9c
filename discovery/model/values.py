"""Single values of records and notes: their limits, and tests whether a peer's value keeps them.

Internal.
"""

from __future__ import annotations

from typing import Any, TypeGuard

#: The states of an instance. Only UP gets new calls: STARTING is not ready yet, DRAINING is about to stop.
STATES = ("STARTING", "UP", "DRAINING")
DEFAULT_NAMESPACE = "default"
#: Seconds that a lease lives without renewal.
DEFAULT_TTL = 10.0
#: Bounds of a lease in seconds. A shorter lease would expire whenever a busy machine delays its holder.
SHORTEST_TTL, LONGEST_TTL = 0.1, 3600.0
#: Characters of a service, instance, node or namespace name.
LONGEST_NAME = 255
#: Characters of a note's key.
LONGEST_KEY = 1024
#: Seconds that a note lives by default, and the most that a writer may ask for.
DEFAULT_NOTE_TTL, LONGEST_NOTE_TTL = 30 * 86_400.0, 366 * 86_400.0
#: Levels of lists and maps within a field. To compare or format deeper ones could exhaust the stack.
NESTING = 16
#: The largest value of an integer field; msgpack carries no more.
LARGEST_NUMBER = 2**63 - 1


def is_shallow(value: object, levels: int = NESTING) -> bool:
    """Whether lists and maps in `value` are nested no deeper than `levels`."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return levels >= 0 and all(is_shallow(item, levels - 1) for item in inner if isinstance(item, dict | list | tuple))


def is_name(value: object) -> bool:
    """Whether this is a text that may name a service, an instance or a namespace."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME


def is_number(value: object) -> bool:
    """Whether this is a whole number that fits the protocol."""
    return type(value) is int and 0 <= value <= LARGEST_NUMBER


def is_ttl(value: object) -> bool:
    """Whether a lease may last this many seconds; False for nan."""
    return (type(value) is int or type(value) is float) and SHORTEST_TTL <= value <= LONGEST_TTL


def is_signed(value: object) -> bool:
    """Whether this may be what a node signed: bytes, or None outside of a closed cluster."""
    return value is None or isinstance(value, bytes)


def is_map(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether this is a map whose keys are texts."""
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def is_optional_text(value: object) -> bool:
    """Whether this is a text or None."""
    return value is None or isinstance(value, str)
