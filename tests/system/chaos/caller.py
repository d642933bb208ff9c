"""Calls without end, in a process of its own: `python -m tests.system.chaos.caller SETTINGS`.

Each call is a line in a file when it begins and one when it ends; so is each stall of this process's own event loop, which delays
whatever the calls do. SIGTERM ends it: no further calls, and those under way are waited for.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import time
from typing import Any, NamedTuple

import gevent

from zmqservices.standalone.rpc import ClusterRpcProxy

#: Seconds between two looks at the event loop, and beyond them those from which on it has stalled.
LOOK, STALL = 0.01, 0.02


class Kind(NamedTuple):
    """One sort of call. Times in seconds."""

    method: str
    takes: float
    timeout: float

    @property
    def is_idempotent(self) -> bool:
        return self.method == "look"


#: Long deadlines: what ends calls is that a loss is noticed. "brief" is for deadlines that come before that.
KINDS = {
    "look": Kind("look", 0.0, 10.0),
    "look slowly": Kind("look", 0.1, 10.0),
    "spend": Kind("spend", 0.0, 10.0),
    "spend slowly": Kind("spend", 0.1, 10.0),
    "brief": Kind("spend", 0.05, 0.4),
}


class Caller:
    """What is written: {"b": number, ...} for a call that begins, {"e": number, ...} for one that ends, {"s": seconds, ...}."""

    def __init__(self, index: int, file: str, pause: float, greenlets: int) -> None:
        self._numbers = itertools.count(index * 10**9)
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._pause, self._greenlets = pause, greenlets
        self._is_over = False
        self._chance = random.Random(index)

    def write(self, **line: Any) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")

    def run(self, config: dict[str, Any]) -> None:
        gevent.signal_handler(signal.SIGTERM, self.stop)
        with ClusterRpcProxy(config) as cluster:
            watch = gevent.spawn(self.watch)
            gevent.joinall([gevent.spawn(self.call_on, cluster.ledger) for _ in range(self._greenlets)], raise_error=True)
            watch.join()
        self.write(over=True)

    def stop(self) -> None:
        self._is_over = True

    def watch(self) -> None:
        """Write down how late this process's event loop was."""
        while not self._is_over:
            began = time.monotonic()
            gevent.sleep(LOOK)
            late = time.monotonic() - began - LOOK
            if late > STALL:
                self.write(s=late, at=began + LOOK)

    def call_on(self, ledger: Any) -> None:
        while not self._is_over:
            self.call(ledger, self._chance.choice(list(KINDS)))
            gevent.sleep(self._pause * self._chance.uniform(0.5, 1.5))

    def call(self, ledger: Any, kind: str) -> None:
        number, (method, takes, timeout) = next(self._numbers), KINDS[kind]
        began = time.monotonic()
        self.write(b=number, kind=kind, at=began)
        try:
            outcome = {"pid": getattr(ledger, method).with_timeout(timeout)(number, takes)}
        except Exception as exc:
            outcome = {"error": type(exc).__name__, "text": str(exc), "retryable": getattr(exc, "retryable", False)}
        self.write(e=number, at=time.monotonic(), **outcome)


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    Caller(settings["index"], settings["file"], settings["pause"], settings["greenlets"]).run(settings["config"])
