"""What a handler wants: which events, for which group, on which terms. Pure; travels in records and in SUBSCRIBE.

Rule 1: a subscription that a peer or a directory sends is checked field by field; junk is None, never an error.
Rule 2: equal names of a group mean the same group, whoever says so.
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

#: What the name of the service begins with that a node announces for each source that it publishes.
PUBLISHES = "events:"


#: Characters of each name and pattern of a subscription.
LONGEST_NAME = 4096

#: Bytes of a topic that names what it stands for; a digest stands for longer ones. The XPUB takes little more.
LONGEST_TOPIC = 60
#: Hexadecimal digits of a digest, 160 bits: no two names that anybody could find share them.
DIGITS = 40


def publishing(source: str) -> str:
    """The name by which those who publish events of `source` are found in a directory."""
    return PUBLISHES + source


@dataclass(frozen=True, slots=True)
class Subscription:
    """Please let `group` have the events of `source` whose type fits `pattern`.

    `kind`: one member of a SERVICE_POOL or SINGLETON group gets each event, every member of a BROADCAST. `reliable`: until
    it is done, else once at most. `start`: what a group that is new to a journal gets of what the journal holds.
    `max_deliveries`: after so many an event is given up (0: never); None for what its publisher is set to.
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
        """The subscription that `to_dict` gave; None for anything else. Keys that are not known are ignored."""
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
    """Who shares events: as Nameko names its queues.

    The instances of one service for one method (SERVICE_POOL), all who handle this pattern (SINGLETON), or one instance
    alone (BROADCAST), known again by its identifier.
    """
    if kind == SINGLETON:
        return f"{source}:{pattern}"
    own = f"{service}.{method}:{pattern}"
    return own if kind == SERVICE_POOL else f"{own}@{broadcast_identifier}"


def broadcast_topic(source: str, pattern: str) -> bytes:
    """What every member of a best-effort BROADCAST listens for."""
    return _topic(b"B", source, pattern)


def member_topic(group: str, member: str) -> bytes:
    """What one member of another best-effort group listens for."""
    return _topic(b"P", group, member)


def _topic(kind: bytes, *names: str) -> bytes:
    # Short, since ZeroMQ keeps a node of a tree for each byte of a topic, and walks through all when a connection ends.
    topic = b"\0".join((kind, *(name.encode() for name in names), b""))
    if len(topic) > LONGEST_TOPIC:
        # Imported here: it brings OpenSSL.
        from hashlib import sha256

        topic = b"%s\0%s\0\0" % (kind, sha256(topic).hexdigest()[:DIGITS].encode())
    return topic
