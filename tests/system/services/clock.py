"""A service without methods: one of its instances writes a line now and then, into the file that TICKS_FILE names."""

from __future__ import annotations

import os
import time

from zmqservices import config
from zmqservices.timer import timer


class Clock:
    name = "clock"

    @timer(interval=0.05, cluster=True)
    def tick(self) -> None:
        with open(config["TICKS_FILE"], "a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {time.monotonic()}\n")
