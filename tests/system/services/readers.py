"""Handles the same events twice: those that are promised, and those that are not."""

from __future__ import annotations

from tests.system.tallies import TallyFile
from zmqservices.events import event_handler


class Readers:
    name = "readers"

    handled = TallyFile("handled")
    seen = TallyFile("seen")

    @event_handler("orders", "order.paid")
    def read(self, number: int) -> None:
        self.handled(number)

    @event_handler("orders", "order.paid", reliable_delivery=False)
    def glance(self, number: int) -> None:
        self.seen(number)
