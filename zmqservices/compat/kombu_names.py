"""The names of kombu's types. There is no broker, so they only serve in declarations and annotations.

Internal. `zmqservices.compat.install` is public.
"""

from __future__ import annotations

from typing import Any

from zmqservices.removed import NO_BROKER


class Declared:
    """Keeps the arguments of a declaration."""

    def __init__(self, name: str = "", *args: object, **options: object) -> None:
        self.name = name
        self.args = args
        self.options = options

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}: a declaration, without a broker>"


class Exchange(Declared):
    """The declaration of an exchange."""


class Queue(Declared):
    """The declaration of a queue."""


class Message:
    """The type in annotations of message handlers."""


#: The modules that can be imported, and the names in each.
MODULES: dict[str, dict[str, Any]] = {
    "kombu": {"Exchange": Exchange, "Message": Message, "Queue": Queue},
    "kombu.entity": {"Exchange": Exchange, "Queue": Queue},
    "kombu.message": {"Message": Message},
    "kombu.messaging": {"Exchange": Exchange, "Queue": Queue},
}


def sentence(name: str) -> str:
    """A sentence that says what to use instead of a missing name."""
    return NO_BROKER
