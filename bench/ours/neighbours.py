"""Twenty services in four layers for a large map: each calls two of the next layer, and some dispatch events, with little load.

`zmqservices run bench.ours.neighbours:Service7` runs one of them.
"""

from __future__ import annotations

from typing import Any

from zmqservices.events import EventDispatcher, event_handler
from zmqservices.rpc import RpcProxy, rpc
from zmqservices.timer import timer

COUNT, LAYER = 20, 5
#: Seconds between two rounds of calls of an instance.
PAUSE = 5.0


def _name(number: int) -> str:
    return f"service-{number:02d}"


def _below(number: int, step: int) -> str:
    """A service of the next layer; the last layer calls among its own."""
    layer = min(number // LAYER + 1, COUNT // LAYER - 1)
    return _name(layer * LAYER + (number + step) % LAYER)


def _service(number: int) -> type[Any]:
    class Service:
        name = _name(number)
        one = RpcProxy(_below(number, 1))
        other = RpcProxy(_below(number, 2))
        dispatch = EventDispatcher()

        @rpc
        def answer(self, text: str) -> str:
            return text

        @timer(PAUSE)
        def ask(self) -> None:
            self.one.answer("hello")
            self.other.answer("hello")
            if number % 4 == 0:
                self.dispatch("asked", number)

    if number % 4 == 1:

        def on_asked(self: Any, asked: int) -> None:
            """Ignore it."""

        Service.on_asked = event_handler(_name(number - 1), "asked")(on_asked)  # type: ignore[attr-defined]
    return Service


for _number in range(COUNT):
    globals()[f"Service{_number}"] = _service(_number)
