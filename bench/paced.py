"""A client process that makes calls when they are due, whatever became of those before.

    python -m bench.paced HOST:PORT '{"rate": 1000, "seconds": 10, "timeout": 1, "spin": 0.0005, "every": 0}'

Latency counts from when a call was due, so that a server (or this client) that falls behind cannot hide it. With
`"closed": 64` it measures the saturating rate instead. Prints a line of JSON at the end, and with `every` one each so
many seconds before.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from array import array
from collections import Counter
from typing import Any

from bench import styles, summary
from bench.ours.services import OnTheHub
from bench.vitals import vitals


class Service:
    """`add` as the styles know it, or the same price of work at the server."""

    def __init__(self, service: Any, spin: float, parts: int = 1) -> None:
        self._service = service
        self._spin = spin
        self._parts = parts

    def add(self, a: int, b: int) -> int:
        if self._spin:
            self._service.spin(self._spin, self._parts)
            return a + b
        value: int = self._service.add(a, b)
        return value


class Pacer:
    """Hands due times to greenlets, as many as there are calls that take long."""

    def __init__(self, service: Any, job: dict[str, Any]) -> None:
        from gevent.queue import SimpleQueue

        self._service = Service(service, job["spin"], job.get("parts", 1))
        self._job = job
        self._due: Any = SimpleQueue()
        self._idle = 0
        self._workers = 0
        self._random = random.Random(1)
        self._server = service
        self.begin()

    def begin(self) -> None:
        """Forget what was counted so far."""
        self.latencies = array("d")
        self.in_time = self.offered = 0
        #: How long each call took that was not answered.
        self.failed = array("d")
        self.errors: Counter[str] = Counter()
        self.lag = 0.0
        self.since = time.monotonic()

    def run(self) -> None:
        """Make calls for the job's seconds, then wait for those under way."""
        import gevent

        rate, every = self._job["rate"], self._job["every"]
        start = time.monotonic()
        until, tell_at = start + self._job["seconds"], start + every
        due = start
        self.begin()
        while True:
            now = time.monotonic()
            while due <= now and due < until:
                self._put(due, now)
                due += self._random.expovariate(rate)
            if every and now >= tell_at:
                tell_at += every
                print(json.dumps({**self.taken(now - self.since), **self._vitals()}), flush=True)
                self.begin()
            if now >= until:
                break
            gevent.sleep(max(min(due, until) - time.monotonic(), 0))
        self._wait(until + self._job["timeout"] + 2.0)

    def _vitals(self) -> dict[str, Any]:
        return {"client": vitals(), "server": self._server.vitals()}

    def _put(self, due: float, now: float) -> None:
        import gevent

        self.offered += 1
        self.lag = max(self.lag, now - due)
        if self._due.qsize() >= self._idle:
            self._workers += 1
            gevent.spawn(self._work)
        self._due.put(due)

    def _work(self) -> None:
        timeout = self._job["timeout"]
        number = 0
        while True:
            self._idle += 1
            due = self._due.get()
            self._idle -= 1
            number += 1
            try:
                value = self._service.add(number, 1)
            except Exception as exc:
                self.errors[type(exc).__name__] += 1
                self.failed.append((time.monotonic() - due) * 1e6)
                continue
            if value != number + 1:
                self.errors["WrongAnswer"] += 1
            latency = time.monotonic() - due
            self.latencies.append(latency * 1e6)
            self.in_time += latency <= timeout

    def _wait(self, until: float) -> None:
        import gevent

        while self._idle < self._workers and time.monotonic() < until:
            gevent.sleep(0.01)

    def taken(self, seconds: float) -> dict[str, Any]:
        """What was counted."""
        return {
            "offered": self.offered,
            "answered": len(self.latencies),
            "goodput": round(self.in_time / seconds, 1),
            "errors": dict(self.errors),
            "failed_p50_us": summary.latencies(self.failed)["p50_us"] if self.failed else 0.0,
            "lag_ms": round(self.lag * 1e3, 2),
            **summary.latencies(self.latencies),
        }


def main() -> None:
    import gevent

    gevent.get_hub()
    job = json.loads(sys.argv[2])
    subject = OnTheHub()
    subject.timeout = job.get("timeout")
    service = subject.connect(sys.argv[1])
    if service.add.with_timeout(60)(1, 2) != 3:
        raise styles.WrongAnswer("add(1, 2) was answered wrongly")
    print("ready", flush=True)
    if "closed" in job:
        taken = styles.greenlets(lambda: Service(service, job["spin"]), styles.Work(job["closed"], job["seconds"]))
        print(json.dumps({"rate": len(taken.latencies) / taken.seconds}), flush=True)
    else:
        pacer = Pacer(service, job)
        cpu = time.process_time()
        pacer.run()
        print(json.dumps({**pacer.taken(job["seconds"]), "cpu": time.process_time() - cpu}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
