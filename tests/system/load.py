"""Makes calls without end from many greenlets, in a thread with its own hub, and records the outcome of each."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import gevent

from tests.system.processes import PATIENCE, eventually
from zmqservices.standalone.rpc import ClusterRpcProxy


class Outcome(NamedTuple):
    """One call. Times are of the monotonic clock; `error` is the exception, or None."""

    number: int
    began: float
    ended: float
    value: Any
    error: BaseException | None

    @property
    def seconds(self) -> float:
        return self.ended - self.began


class Load:
    """`call(cluster, number)` makes one call. Runs from `with` to the end of the block, or for `calls` calls."""

    def __init__(
        self,
        config: dict[str, Any],
        call: Callable[[Any, int], Any],
        greenlets: int = 64,
        timeout: float = 20,
        pause: float = 0.0,
    ) -> None:
        self._config = config
        self._call = call
        self._greenlets = greenlets
        self._timeout = timeout
        self._pause = pause
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        #: The fields of each outcome, in the order in which calls ended. Python's collector does not look at tuples of numbers
        #: again and again, as it does at the objects of classes: a million of those would stall calls for 0.1 s.
        self._done: list[tuple[Any, ...]] = []
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Let every greenlet end its call, and return when that is done."""
        self._stop.set()
        self._thread.join(self._timeout + PATIENCE)
        assert not self._thread.is_alive(), "calls did not end, not even by their timeouts"
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            with ClusterRpcProxy(self._config, timeout=self._timeout) as cluster:
                gevent.joinall([gevent.spawn(self._call_on, cluster) for _ in range(self._greenlets)])
        except BaseException as exc:
            self._failure = exc
        finally:
            gevent.get_hub().destroy()

    def _call_on(self, cluster: Any) -> None:
        while not self._stop.is_set():
            number, value, error = next(self._numbers), None, None
            began = time.monotonic()
            try:
                value = self._call(cluster, number)
            except Exception as exc:
                error = exc
            self._done.append((number, began, time.monotonic(), value, error))
            gevent.sleep(self._pause)

    # --- what became of them -----------------------------------------------------------------------------------------

    def wait_for(self, count: int, since: float = 0.0, timeout: float = PATIENCE) -> list[Outcome]:
        """The outcomes of calls begun since, once there are `count`."""
        return eventually(
            lambda: len(found := self.begun(since)) >= count and found, timeout, f"{count} calls have ended"
        )

    def wait_for_more(self, count: int) -> None:
        """Wait until so many more calls have ended."""
        end = len(self._done) + count
        eventually(lambda: len(self._done) >= end, what=f"{count} more calls have ended")

    @property
    def outcomes(self) -> list[Outcome]:
        return [Outcome(*done) for done in list(self._done)]

    def begun(self, since: float) -> list[Outcome]:
        found = []
        for place in range(len(self._done) - 1, -1, -1):
            outcome = Outcome(*self._done[place])
            if outcome.ended < since:
                break
            if outcome.began >= since:
                found.append(outcome)
        return found[::-1]

    def failed(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.error is not None]


def told(outcomes: list[Outcome]) -> list[str]:
    """The errors among them in short, for the message of an assertion."""
    texts = [f"#{o.number} after {o.seconds:.2f} s: {o.error!r}" for o in outcomes if o.error is not None]
    return texts[:5] + ([f"and {len(texts) - 5} more"] if len(texts) > 5 else [])


def median_of(seconds: list[float]) -> float:
    return median(seconds) if seconds else 0.0
