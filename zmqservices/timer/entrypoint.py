"""`@timer` makes a method run at intervals: on every instance of the service or, with `cluster=True`, on one of them.

Internal. Services use `zmqservices.timer`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import isfinite
from time import monotonic
from typing import Any, Unpack

from gevent.event import Event

from zmqservices import configuration, constants
from zmqservices.exceptions import ConfigurationError, ContainerBeingKilled
from zmqservices.extensions import Entrypoint, EntrypointOptions
from zmqservices.hosting.outcomes import is_overridden, never_began, outcome_of
from zmqservices.leadership.candidacy import Candidacy
from zmqservices.timer.schedule import Schedule
from zmqservices.worker_context import ExcInfo, Outcome, WorkerContext

_log = logging.getLogger(__name__)

#: The values of `missed`, and whether ticks that were missed because one took too long are run afterwards.
MISSED = {"skip": False, "catch_up": True}


class Timer(Entrypoint):
    """Runs a method every `interval` seconds, and never twice at once: a tick waits until the one before has ended.

    The schedule is absolute: ticks are due `interval`, 2 * `interval`, ... seconds after the start. `eager=True`: the first tick
    is due at the start. `missed`: ticks that become due while one runs are left out (`"skip"`), or run one after the other as
    soon as it ends (`"catch_up"`). An error of the method is logged, and the timer goes on. `cluster=True`: only the leader
    among the instances of the service in the namespace runs the method; see `zmqservices.leadership` for the guarantees.
    """

    takes_generators = False

    def __init__(
        self,
        interval: float,
        eager: bool = False,
        missed: str = "skip",
        cluster: bool = False,
        **kwargs: Unpack[EntrypointOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.interval = _seconds(interval)
        self.eager = eager
        if missed not in MISSED:
            raise ConfigurationError(f"@timer(missed={missed!r}): one of {', '.join(map(repr, MISSED))} is needed")
        self.missed = missed
        self.cluster = cluster
        if cluster:
            self.candidacy = Candidacy()
        #: Returns the time in seconds. A test may replace it; see `zmqservices.testing.clock`.
        self.clock: Callable[[], float] = monotonic
        self._is_stopping = False
        self._woken = Event()
        self._is_over = Event()
        self._thread: Any = None
        self._schedule: Schedule | None = None

    def listed(self) -> dict[str, Any]:
        where = ", on one instance" if self.cluster else ""
        return {"kind": "timer", "what": f"every {self.interval:g} s{where}"}

    def details(self) -> dict[str, Any]:
        """`next`: seconds until the next tick; None while the timer is stopped.

        For a `cluster` timer also whether it ticks here.
        """
        schedule = None if self._is_stopping else self._schedule
        return {
            "interval": self.interval,
            "next": None if schedule is None else round(schedule.wait(self.clock()), 3),
            "cluster": self.cluster,
            "is_leader": self.cluster and self.candidacy.is_leader(),
        }

    def setup(self) -> None:
        self._drain_timeout = configuration.seconds(
            self.container.config, constants.DRAIN_TIMEOUT_CONFIG_KEY, constants.DEFAULT_DRAIN_TIMEOUT, allow_none=True
        )

    def start(self) -> None:
        """Called once all extensions are set up: start ticking."""
        if self.cluster:
            self.candidacy.campaign(self.method_name)
        self._thread = self.container.spawn_managed_thread(self._run, identifier=f"timer {self.method_name}")

    def stop(self) -> None:
        """Begin no more ticks, and return when the running tick has ended.

        If it takes longer than `drain_timeout`, the container cancels it.
        """
        self._end()
        if self._thread is not None:
            self._thread.join(self._drain_timeout)
            if self.cluster and self._thread.ready():
                # Only now, because the next leader may begin its tick at once.
                self.candidacy.resign()

    def kill(self) -> None:
        """Stop at once. A running tick is killed with the other workers."""
        self._end()
        if self._thread is not None:
            self._thread.kill(block=False)

    def look(self) -> None:
        """Called by a test that has moved the clock, because a tick may be due."""
        self._woken.set()

    def _end(self) -> None:
        self._is_stopping = True
        self._woken.set()

    def _run(self) -> None:
        if self.cluster and self.eager:
            self.candidacy.wait_until_known(self._woken)
        schedule = self._schedule = Schedule(self.interval, self.clock(), self.eager, MISSED[self.missed])
        while not self._is_stopping:
            self._woken.clear()
            wait = schedule.wait(self.clock())
            if wait:
                self._woken.wait(wait)
                continue
            if not self.cluster or self.candidacy.is_leader():
                self.handle_timer_tick()
            missed = schedule.ticked(self.clock())
            if missed:
                _log.info("skipped %d ticks of %r, which took too long", missed, self)

    def handle_timer_tick(self) -> None:
        """Called when a tick is due: run the method, and return at its end."""
        self._is_over.clear()
        try:
            self.container.submit(self, (), {}, handle_result=self._tick_ended)
        except ContainerBeingKilled:
            self._end()
            return
        self._is_over.wait()

    def handle_result(self, worker_ctx: WorkerContext, result: object, exc_info: ExcInfo | None) -> Outcome:
        """Called with the outcome of a tick. The return value is passed to dependency providers."""
        return result, exc_info

    def _tick_ended(self, worker_ctx: WorkerContext, result: object, exc_info: ExcInfo | None) -> Outcome:
        try:
            if not never_began(worker_ctx) and is_overridden(self, Timer):
                return outcome_of(self, worker_ctx, result, exc_info)
            return result, exc_info
        finally:
            # Always set, even if an override fails, because the next tick waits for it.
            self._is_over.set()


def _seconds(interval: object) -> float:
    if isinstance(interval, (int, float)) and not isinstance(interval, bool) and isfinite(interval) and interval > 0:
        return float(interval)
    raise ConfigurationError(f"@timer(interval={interval!r}): a number of seconds above 0 is needed, such as 60")


timer = Timer.decorator
