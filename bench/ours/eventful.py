"""The service that the bench calls, in a process that has events as well. A module of its own: others do not import them."""

from __future__ import annotations

from typing import Any

from bench.ours.service import Adder
from zmqservices.events import EventDispatcher, event_handler


class EventfulAdder(Adder):
    """Dispatches and handles events; the methods that are called do not."""

    name = "eventful-adder"

    dispatch = EventDispatcher()

    @event_handler("adder", "added")
    def on_added(self, payload: Any) -> None:
        """Never comes."""
