"""What a node may do, by the patterns of its certificate and of a policy. Pure.

Internal.

Rule 1: everything that no rule allows is forbidden.
Rule 2: every verdict names its rule, or says that there is none, and what was asked for.

A pattern is a name, in which `*` stands for any characters. For calls `orders` means all methods of the service `orders`, and
`orders.get_*` some of them; for events `orders` means all events of that source, and `orders.paid` one type. `*` never gives
an operator's methods: a service that begins with `events:` is called by those who may administer its source, and
`node:operators`, which every node serves, by those who may administer `node:operators`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from discovery.security.certificates import Certificate

#: The beginning of the name of a source's operators' service; the name of the source follows.
OPERATORS_PREFIX = "events:"
#: The operators' service of every node.
NODE_OPERATORS = "node:operators"


class Verb(enum.Enum):
    """An action that can be allowed. The value is the name of the list in a certificate."""

    SERVE = "serves"
    CALL = "calls"
    PUBLISH = "publishes"
    HANDLE = "handles"
    REGISTER = "registers"
    ADMINISTER = "administers"


@dataclass(frozen=True, slots=True)
class Permission:
    """A verdict. `rule` is a sentence that says what allows the action, or that nothing does."""

    is_allowed: bool
    rule: str

    def __bool__(self) -> bool:
        return self.is_allowed


def allows(certificate: Certificate, verb: Verb, name: str, part: str = "") -> Permission:
    """Whether the holder of `certificate` may do `verb` with `name`, or with `part` of it: a method or an event's type."""
    asked = f"{name}.{part}" if part else name
    for pattern in getattr(certificate, verb.value):
        if matches(pattern, name, part):
            return Permission(True, f"its certificate {certificate.serial} {verb.value} {pattern!r}")
    listed = ", ".join(map(repr, getattr(certificate, verb.value)[:10])) or "nothing"
    return Permission(
        False, f"the certificate of {certificate.name!r} {verb.value} {listed}, and {asked[:200]!r} is not among that"
    )


def needed_to_call(service: str) -> tuple[Verb, str]:
    """The permission that a caller of `service` needs: to call it, or, for an operators' service, to administer its subject."""
    if service == NODE_OPERATORS:
        return Verb.ADMINISTER, service
    if service.startswith(OPERATORS_PREFIX):
        return Verb.ADMINISTER, service.removeprefix(OPERATORS_PREFIX)
    return Verb.CALL, service


def may_call(certificate: Certificate, service: str, method: str) -> Permission:
    """Whether the holder may call a method. A method for operators needs the permission to administer the source, or nodes."""
    return allows(certificate, *needed_to_call(service), method)


def may_serve(certificate: Certificate, service: str) -> Permission:
    """Whether the holder may answer calls to `service`. Nodes that may publish a source may serve its operators' service."""
    if service == NODE_OPERATORS:
        return Permission(True, "every node answers for itself")
    if service.startswith(OPERATORS_PREFIX):
        return allows(certificate, Verb.PUBLISH, service.removeprefix(OPERATORS_PREFIX))
    return allows(certificate, Verb.SERVE, service)


def may_register(certificate: Certificate, service: str) -> Permission:
    """Whether the holder may list an instance of `service` in the directory."""
    if service.startswith(OPERATORS_PREFIX):
        return allows(certificate, Verb.PUBLISH, service.removeprefix(OPERATORS_PREFIX))
    return allows(certificate, Verb.REGISTER, service)


def may_write_note(certificate: Certificate, key: str, value: Mapping[str, Any] | None) -> Permission:
    """Whether the holder may write the note under `key`, or delete it (`value` None).

    A node may register a consumer group if it may publish the source. Otherwise it must be allowed to handle the events
    and, for a group of a service (`SERVICE.METHOD:PATTERN`), to serve that service. A node that may publish or administer the
    source may remove the group. Every node that may register some service may write other notes.
    """
    subject, _, group = key.partition("\0")
    if not subject.startswith(OPERATORS_PREFIX):
        if certificate.registers:
            return Permission(True, "it registers something")
        return Permission(False, f"the certificate of {certificate.name!r} registers nothing, so it writes no notes either")
    source = subject.removeprefix(OPERATORS_PREFIX)
    publishes = allows(certificate, Verb.PUBLISH, source)
    if publishes:
        return publishes
    pattern = None if value is None else value.get("pattern")
    if not isinstance(pattern, str):
        administers = allows(certificate, Verb.ADMINISTER, source)
        rule = f"a group of {source[:100]!r} is removed by those who publish or administer its events: {publishes.rule}"
        return administers or Permission(False, rule)
    handles = allows(certificate, Verb.HANDLE, source, pattern)
    owner = "" if group == f"{source}:{pattern}" else group.partition(":")[0].rpartition(".")[0]
    return may_serve(certificate, owner) if handles and owner else handles


def matches(pattern: str, name: str, part: str = "") -> bool:
    """Whether a pattern of a permission matches `name`, or `part` of it."""
    return _fits(pattern, name) or bool(part) and _fits(pattern, f"{name}.{part}")


def _fits(pattern: str, text: str) -> bool:
    # No regular expression: with many stars its time grows with a power of their number.
    first, *others = pattern.split("*")
    if not others:
        return pattern == text
    *middle, last = others
    if not text.startswith(first) or len(text) < len(first) + len(last) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for piece in middle:
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True
