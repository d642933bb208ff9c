"""The two ends of an event: a module for each subject, with `publish(job)` and `subscribe(job)`, each a process of its own.

    python -m bench.eventing SUBJECT publish|subscribe JOB

A publisher says where it is (or merely that it is), waits for a line, publishes `job["events"]` events and says "done". A
subscriber says that it listens, counts, and prints how many came and when the last of them did.

Rule 1: nothing but the standard library at the top; the bench's own environment and those of the peers run this.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

#: The source and the type of the events of every subject.
SOURCE, TYPE = "bench", "thing.happened"
#: Best-effort events are over after so many seconds without one.
QUIET = 0.5
#: Best-effort events between two pauses in which the sockets have their turn.
BURST = 20
#: Seconds for which an end lives after its work, unless it is ended before.
PATIENCE = 120.0


def tell(word: str) -> None:
    """Send a message to the bench."""
    print(word, flush=True)


class Count:
    """The events that a subscriber has received."""

    def __init__(self) -> None:
        self.arrived = 0
        self.at = 0.0

    def one(self) -> None:
        self.arrived += 1
        self.at = time.monotonic()

    def is_over(self, job: dict[str, Any], may_lose: bool) -> bool:
        """All have come; or, where some may be lost, nothing has come for a while."""
        if self.arrived >= job["events"]:
            return True
        return may_lose and self.arrived > 0 and time.monotonic() - self.at >= QUIET

    def tell(self) -> None:
        tell(json.dumps({"arrived": self.arrived, "at": self.at}))


def wait_for_go() -> None:
    """Wait until all subscribers listen."""
    sys.stdin.readline()
