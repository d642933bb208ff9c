"""The names of kombu's types, for code that only uses them in declarations and annotations, as there is no broker.

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
    """An exchange, as it was declared."""


class Queue(Declared):
    """A queue, as it was declared."""


class Message:
    """The type for annotations of message handlers."""


#: Modules and their names.
MODULES: dict[str, dict[str, Any]] = {
    "kombu": {"Exchange": Exchange, "Message": Message, "Queue": Queue},
    "kombu.entity": {"Exchange": Exchange, "Queue": Queue},
    "kombu.message": {"Message": Message},
    "kombu.messaging": {"Exchange": Exchange, "Queue": Queue},
}


def sentence(name: str) -> str:
    """What to use for a name that is not here."""
    return NO_BROKER
