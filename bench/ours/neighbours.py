"""Twenty services for a large map: each calls the next two, and the first of each four dispatches events, a little all the time.

`zmqservices run bench.ours.neighbours:Service7` runs one of them.
"""

from __future__ import annotations

from typing import Any

from zmqservices.events import EventDispatcher, event_handler
from zmqservices.rpc import RpcProxy, rpc
from zmqservices.timer import timer

COUNT = 20
#: Seconds between two rounds of calls of an instance.
PAUSE = 5.0


def _name(number: int) -> str:
    return f"service-{number % COUNT:02d}"


def _service(number: int) -> type[Any]:
    class Service:
        name = _name(number)
        next = RpcProxy(_name(number + 1))
        other = RpcProxy(_name(number + 7))
        dispatch = EventDispatcher()

        @rpc
        def answer(self, text: str) -> str:
            return text

        @timer(PAUSE)
        def ask(self) -> None:
            self.next.answer("hello")
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
