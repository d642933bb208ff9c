"""The services under chaos. Each records every call that it runs and every event that it dispatches or handles."""

from __future__ import annotations

import itertools
import os
import time
from typing import Any

import gevent

from tests.system.tallies import TallyFile
from zmqservices.events import EventDispatcher, event_handler
from zmqservices.rpc import rpc
from zmqservices.timer import timer

#: Seconds between two events of a publisher.
EVENT_INTERVAL = 0.02


class Ledger:
    """Each call has a number of its own; it is written down before anything else happens."""

    name = "ledger"

    executed = TallyFile("executed")

    @rpc
    def spend(self, number: int, seconds: float) -> int:
        """Must not run twice."""
        self.executed(number)
        gevent.sleep(seconds)
        return os.getpid()

    @rpc(idempotent=True)
    def look(self, number: int, seconds: float) -> int:
        """May run again elsewhere."""
        self.executed(number)
        gevent.sleep(seconds)
        return os.getpid()

    @rpc(idempotent=True)
    def glance(self) -> None:
        """Nothing is written down: there are very many of these."""


class Orders:
    """Publishes without end. An event is one that was dispatched, or one that was refused with an error."""

    name = "orders"

    dispatch = EventDispatcher()
    dispatched = TallyFile("dispatched")
    refused = TallyFile("refused")

    #: Numbers that no other process has.
    numbers = itertools.count(time.time_ns() // 1000 * 1000)

    @timer(interval=EVENT_INTERVAL)
    def publish(self) -> None:
        number = next(self.numbers)
        try:
            self.dispatch("order.paid", number)
        except Exception:
            self.refused(number)
            raise
        self.dispatched(number)


class Mails:
    name = "mails"

    handled = TallyFile("handled")

    @event_handler("orders", "order.paid")
    def send(self, number: Any) -> None:
        self.handled(number)
