"""What is called most: answers that say who gave them, quickly, slowly, or after much work."""

from __future__ import annotations

import os
import time
from typing import Any

import gevent

from zmqservices.cli import run
from zmqservices.rpc import rpc

#: Tests wait until an idle service has given its memory back; a user would not notice.
run.IDLE_CHECK_INTERVAL = 0.5


class Maths:
    name = "maths"

    @rpc
    def add(self, a: Any, b: Any) -> Any:
        return a + b

    @rpc
    def whoami(self) -> int:
        return os.getpid()

    @rpc
    def pause(self, seconds: float) -> int:
        """Not to be repeated: ends in MaybeExecuted when its instance is lost."""
        gevent.sleep(seconds)
        return os.getpid()

    @rpc
    def stay_until(self, path: str) -> int:
        """Until there is such a file."""
        while not os.path.exists(path):
            gevent.sleep(0.01)
        return os.getpid()

    @rpc(idempotent=True)
    def pause_again(self, seconds: float) -> int:
        """The same, and may be repeated."""
        gevent.sleep(seconds)
        return os.getpid()

    @rpc
    def spin(self, seconds: float) -> int:
        """Keeps the processor, and the hub, for itself."""
        end = time.monotonic() + seconds
        turns = 0
        while time.monotonic() < end:
            turns += 1
        return turns

    @rpc
    def echo(self, value: Any) -> Any:
        return value

    @rpc
    def size(self, value: bytes) -> int:
        return len(value)

    @rpc
    def bytes_of(self, size: int) -> bytes:
        return bytes(size)

    @rpc
    def something_unserializable(self) -> Any:
        return object()

    def inner(self) -> None:
        """Not for callers."""
