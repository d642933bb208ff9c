"""Handles numbered events, and writes down each at the beginning and at the end."""

from __future__ import annotations

import os

import gevent

from tests.system.tallies import Setting, TallyFile
from zmqservices.events import event_handler
from zmqservices.rpc import rpc


class Mails:
    name = "mails"

    began = TallyFile("began")
    handled = TallyFile("handled")
    #: Seconds that each event takes.
    pause = Setting("TEST_PAUSE", 0.0)

    @event_handler("orders", "order.paid", max_deliveries=3)
    def send(self, number: int) -> None:
        self.began(number)
        if self.pause:
            gevent.sleep(self.pause)
        if number < 0:
            raise ValueError(f"{number} cannot be handled")
        self.handled(number)

    @rpc
    def whoami(self) -> int:
        return os.getpid()
