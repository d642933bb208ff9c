"""The subscription of a handler: which events, for which group, on which terms. Pure; it is sent in records and in SUBSCRIBE.

Rule 1: a subscription from a peer or a directory is checked field by field. A malformed one is None, never an error.
Rule 2: two groups with equal names are the same group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

SERVICE_POOL = "service_pool"
SINGLETON = "singleton"
BROADCAST = "broadcast"
KINDS = (SERVICE_POOL, SINGLETON, BROADCAST)

NEW = "new"
EARLIEST = "earliest"
STARTS = (NEW, EARLIEST)

#: The beginning of the name of the service that a node announces for each source that it publishes.
PUBLISHES = "events:"


#: The most characters of each name and pattern of a subscription.
LONGEST_NAME = 4096

#: The most bytes of a topic that contains its names. A longer one is replaced by a digest, because the XPUB accepts little more.
LONGEST_TOPIC = 60
#: The hexadecimal digits of a digest: 160 bits, so that nobody can find two names with the same digest.
DIGITS = 40


def publishing(source: str) -> str:
    """The name under which publishers of `source` are found in the directory."""
    return PUBLISHES + source


@dataclass(frozen=True, slots=True)
class Subscription:
    """Please send `group` the events of `source` whose type matches `pattern`.

    `kind`: each event goes to one member of a SERVICE_POOL or SINGLETON group, and to every member of a BROADCAST group.
    `reliable`: deliver each event until it is handled; otherwise once at most. `start`: which events of a journal a group gets
    that is new to it. `max_deliveries`: deliveries after which an event is given up (0: never); None for the publisher's
    setting.
    """

    source: str
    pattern: str
    group: str
    kind: str = SERVICE_POOL
    reliable: bool = True
    start: str = NEW
    max_deliveries: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return {name: getattr(self, name) for name in _NAMES}

    @classmethod
    def from_dict(cls, found: object) -> Subscription | None:
        """The subscription in a mapping of `to_dict`; None for anything else. Unknown keys are ignored."""
        if not isinstance(found, Mapping):
            return None
        values = {name: found[name] for name in _NAMES if name in found}
        if not all(isinstance(values.get(name, SERVICE_POOL), str) for name in ("kind", "start")):
            return None
        texts = [values.get(name) for name in ("source", "pattern", "group")]
        if not all(isinstance(text, str) and "\0" not in text and len(text) <= LONGEST_NAME for text in texts):
            return None
        if values.get("kind", SERVICE_POOL) not in KINDS or values.get("start", NEW) not in STARTS:
            return None
        most = values.get("max_deliveries")
        if not isinstance(values.get("reliable", True), bool) or not (most is None or type(most) is int and most >= 0):
            return None
        return cls(**values)


_NAMES = tuple(field.name for field in fields(Subscription))


def group_name(service: str, method: str, source: str, pattern: str, kind: str, broadcast_identifier: str = "") -> str:
    """The name of the group of handlers that share events, in the form of Nameko's queue names.

    The group is the instances of one service for one method (SERVICE_POOL), all handlers of this pattern (SINGLETON), or one
    instance alone (BROADCAST), which `broadcast_identifier` identifies.
    """
    if kind == SINGLETON:
        return f"{source}:{pattern}"
    own = f"{service}.{method}:{pattern}"
    return own if kind == SERVICE_POOL else f"{own}@{broadcast_identifier}"


def broadcast_topic(source: str, pattern: str) -> bytes:
    """The topic of all members of a best-effort BROADCAST group."""
    return _topic(b"B", source, pattern)


def member_topic(group: str, member: str) -> bytes:
    """The topic of one member of another best-effort group."""
    return _topic(b"P", group, member)


def _topic(kind: bytes, *names: str) -> bytes:
    # Short, because ZeroMQ keeps a tree node for each byte of a topic, and walks through all of them when a connection ends.
    topic = b"\0".join((kind, *(name.encode() for name in names), b""))
    if len(topic) > LONGEST_TOPIC:
        # Imported here, because it loads OpenSSL.
        from hashlib import sha256

        topic = b"%s\0%s\0\0" % (kind, sha256(topic).hexdigest()[:DIGITS].encode())
    return topic
