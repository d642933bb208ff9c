"""Makes very many calls from one process, and reports what it holds then: `python -m tests.system.chaos.churn CONFIG`.

In: one line with a number of calls. Out, when they have ended: one JSON line, see `Held`.
"""

from __future__ import annotations

import gc
import json
import select
import sys
from collections import Counter
from typing import Any, NamedTuple

import gevent
import greenlet
import psutil

from tests.system.processes import Process
from zmqservices.standalone.rpc import ClusterRpcProxy

GREENLETS = 64


class Held(NamedTuple):
    """What the process has: bytes, descriptors, native threads, greenlets; and which calls failed, by the name of the error."""

    memory: int
    descriptors: int
    threads: int
    greenlets: int
    errors: dict[str, int]

    def __str__(self) -> str:
        return f"{self.memory / 1e6:.1f} MB, {self.descriptors} descriptors, {self.threads} threads, {self.greenlets} greenlets"

    def more_than(self, other: Held) -> str:
        """What has grown since then, beyond what one link more explains; "" if nothing has."""
        grown = {
            "MB of memory": (self.memory - other.memory) / 1e6 > 4.0 and (self.memory - other.memory) / 1e6,
            "descriptors": self.descriptors > other.descriptors + 4 and self.descriptors - other.descriptors,
            "threads": self.threads > other.threads and self.threads - other.threads,
            "greenlets": self.greenlets > other.greenlets + 4 and self.greenlets - other.greenlets,
        }
        return ", ".join(f"{more:.3g} {what} more" for what, more in grown.items() if more)


class Churn:
    """The other end: such a process, as a scenario uses it."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def begin(self, calls: int) -> None:
        stdin = self._process.popen.stdin
        assert stdin is not None
        stdin.write(b"%d\n" % calls)
        stdin.flush()

    def has_ended(self, timeout: float = 0.0) -> bool:
        """Whether the calls have, once that is so or the seconds are over."""
        return bool(select.select([self._process.popen.stdout], [], [], timeout)[0])

    def held(self, timeout: float) -> Held:
        assert self.has_ended(timeout), f"the calls have not ended within {timeout:g} s"
        stdout = self._process.popen.stdout
        assert stdout is not None
        return Held(*json.loads(stdout.readline()))


def call(ledger: Any, calls: int) -> Counter[str]:
    """Make so many calls; the errors."""
    numbers, errors = iter(range(calls)), Counter[str]()

    def work() -> None:
        for _ in numbers:
            try:
                ledger.glance()
            except Exception as exc:
                errors[type(exc).__name__] += 1

    gevent.joinall([gevent.spawn(work) for _ in range(GREENLETS)], raise_error=True)
    return errors


def held(errors: Counter[str]) -> Held:
    gc.collect()
    process = psutil.Process()
    living = sum(1 for one in gc.get_objects() if isinstance(one, greenlet.greenlet) and not one.dead)
    return Held(process.memory_info().rss, process.num_fds(), process.num_threads(), living, dict(errors))


def main() -> None:
    with ClusterRpcProxy(json.loads(sys.argv[1])) as cluster:
        for line in iter(sys.stdin.readline, ""):
            errors = call(cluster.ledger, int(line))
            print(json.dumps(held(errors)), flush=True)


if __name__ == "__main__":
    main()
