"""Publishes numbered events, and writes down each whose dispatch has returned."""

from __future__ import annotations

import itertools
import os
from typing import Any

import gevent

from tests.system.tallies import TallyFile
from zmqservices.events import EventDispatcher
from zmqservices.rpc import rpc


class Orders:
    name = "orders"

    dispatch = EventDispatcher()
    tally = TallyFile("dispatched")

    @rpc
    def publish(self, first: int, count: int, greenlets: int = 20, pause: float = 0.0) -> int:
        """Dispatch `count` events, numbered from `first`; returns the process when all are on disk."""
        numbers = iter(range(first, first + count))

        def work() -> None:
            for number in numbers:
                self.dispatch("order.paid", number)
                self.tally(number)
                if pause:
                    gevent.sleep(pause)

        workers = [gevent.spawn(work) for _ in range(greenlets)]
        gevent.joinall(workers, raise_error=True)
        return os.getpid()

    @rpc
    def publish_forever(self, first: int, step: int, greenlets: int = 20) -> None:
        """Dispatch without end, in the background; for those that will be killed."""
        numbers = itertools.count(first, step)

        def work() -> None:
            for number in numbers:
                self.dispatch("order.paid", number)
                self.tally(number)

        for _ in range(greenlets):
            gevent.spawn(work)

    @rpc
    def publish_one(self, type: str, data: Any, key: str | None = None) -> None:
        self.dispatch(type, data, key=key)

    @rpc
    def whoami(self) -> int:
        return os.getpid()
