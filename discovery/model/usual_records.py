"""The fast check of a record that has every field, and the values that equal records share.

Internal. A client that starts is sent thousands of records, and the instances of a service differ only in a few short fields.
"""

from __future__ import annotations

import marshal
from typing import Any

from discovery.model.record_fields import FIELDS, is_text_map, is_weight
from discovery.model.values import LARGEST_NUMBER, LONGEST_NAME, STATES, is_optional_text, is_ttl

#: Fields that are usually equal for all instances of a service, and expensive to check.
_SHARED = ("methods", "subscriptions", "tags")
_EMPTY = {"methods": dict, "subscriptions": list, "tags": dict}
#: Checked values of these fields by their bytes, and the number of all these bytes. Cleared when there are too many.
_checked: dict[bytes, Any] = {}
_checked_bytes = 0
MAX_CHECKED, MAX_CHECKED_BYTES, LARGEST_CHECKED = 2000, 4 * 1024 * 1024, 64 * 1024


def is_usual(fields: dict[str, Any]) -> bool:
    """Whether this is a valid record with every field. If so, its shared fields are replaced by the shared values.

    False means only that `FIELDS` must decide.
    """
    # Written out: a loop over the tests in FIELDS takes three times as long.
    try:
        for name in _SHARED:
            value = fields[name]
            if value:
                fields[name] = _shared(name, value)
            elif type(value) is not _EMPTY[name]:
                return False
        for name in ("service", "instance", "namespace"):
            value = fields[name]
            if type(value) is not str or not 0 < len(value) <= LONGEST_NAME:
                return False
        for name in ("node", "host"):
            value = fields[name]
            if type(value) is not str or len(value) > LONGEST_NAME:
                return False
        for name in ("incarnation", "version", "pid"):
            value = fields[name]
            if type(value) is not int or not 0 <= value <= LARGEST_NUMBER:
                return False
        return (
            fields["state"] in STATES
            and (fields["public_key"] is None or type(fields["public_key"]) is str)
            and ("signed" not in fields or type(fields["signed"]) is bytes)
            and is_optional_text(fields["zone"])
            and is_weight(fields["weight"])
            and is_ttl(fields["ttl"])
            and is_text_map(fields["endpoints"])
        )
    except (KeyError, TypeError, ValueError):
        return False


def _shared(name: str, value: Any) -> Any:
    global _checked_bytes
    # In version 2 of the format, equal values have equal bytes.
    key = name.encode() + marshal.dumps(value, 2)
    known = _checked.get(key)
    if known is not None:
        return known
    if not FIELDS[name][0](value):
        raise ValueError(name)
    if len(key) <= LARGEST_CHECKED:
        if len(_checked) >= MAX_CHECKED or _checked_bytes >= MAX_CHECKED_BYTES:
            _checked.clear()
            _checked_bytes = 0
        _checked[key] = value
        _checked_bytes += len(key)
    return value
