"""The adaptive concurrency limit of a service, which follows the durations of its calls (`max_workers: auto`).

It is a gradient concurrency limit, as in Netflix's concurrency-limits ("Performance Under Load", 2018) and in the gradient
controller of Envoy's adaptive concurrency filter. The headroom and the repeated measurement of a baseline come from Envoy.

Rule 1: no greenlets, no clock here; `now` is always an argument, seconds.
Rule 2: each method has a baseline, which is its duration in calm, while at most CALM calls run. A call is slow if it takes, with
its wait, more than TOLERANCE times the baseline, and more than SLACK seconds longer than the baseline.
Rule 3: after each window, the limit is multiplied by the ratio of the calls' allowed duration to their real duration, bounded by
HALF and 1. Then the square root of the limit is added, as room for a small queue and for growth. The limit only grows if at least
half of it was used.
Rule 4: baselines come from calls that happen to run in calm. If there were none for REMEASURE seconds, or if the limit was small
for STUCK windows, a measurement begins: at most CALM calls run until MEASURED calls or LONGEST_MEASUREMENT seconds are over.
Other calls wait meanwhile; the measurement refuses none of them.
Rule 5: a burst is not an overload. The limit may be exceeded for BURST seconds if no call was refused for REST seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, sqrt
from random import random

#: The calls that can run at the same time without slowing each other down. Also the least limit.
CALM = 3
#: The first limit, and by default the highest one.
INITIAL, DEFAULT_MOST = 10, 100

#: A call may take TOLERANCE times its baseline, or SLACK seconds longer than its baseline; the larger of both counts.
TOLERANCE, SLACK = 1.5, 0.01
#: The least factor of one step, and the part of each step that is applied, because calls of a window began under earlier limits.
HALF, STEP = 0.5, 0.6
#: The shortest window in seconds, the calls that it needs, and the longest window. Within these bounds a window is as long as its
#: calls take on average, because most calls of a shorter window would have begun under an earlier limit.
WINDOW, SAMPLES, LONGEST_WINDOW = 0.2, 20, 1.0

#: Seconds without a call in calm after which a measurement begins. Up to a tenth is added, so that instances measure separately.
REMEASURE = 60.0
#: Windows with a limit below SMALL after which a measurement begins, because the methods themselves may have become slower.
STUCK, SMALL = 5, 2 * CALM
#: The calls of a measurement. A baseline is their mean, and later a moving average over as many calls.
MEASURED = 30
#: The fewest calls for a baseline. If many calls begin together, the first ones that end are all short.
KNOWN = 10
#: The longest measurement in seconds, and the shortest time from its start to the next one for another reason than REMEASURE.
LONGEST_MEASUREMENT, PAUSE = 5.0, 15.0

#: Seconds for which a burst may exceed the limit, and the seconds without a refusal that must precede it.
BURST, REST = 0.1, 1.0


class Baseline:
    """The duration of one method in calm: a mean over its last calls."""

    __slots__ = ("seconds", "calls", "is_known")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.calls = 0
        self.is_known = False

    def saw(self, ran: float) -> None:
        """A call in calm ran for `ran` seconds."""
        if self.calls < MEASURED:
            self.calls += 1
        self.seconds += (ran - self.seconds) / self.calls
        self.is_known = self.is_known or self.calls >= KNOWN

    def begin_anew(self) -> None:
        """Weigh all earlier durations together as one call, so that new calls replace them soon."""
        self.calls = min(self.calls, 1)

    @property
    def allowed(self) -> float:
        """The seconds that a call may take from its arrival to its end."""
        return max(self.seconds * TOLERANCE, self.seconds + SLACK)


class ConcurrencyLimit:
    """The limit of one service. Ask `may_enter` for each call. Call `left` for each accepted call, and `ended` for each that ran.

    The limit is at least CALM and at most `most`.
    """

    def __init__(self, now: float, most: int = DEFAULT_MOST, rand: Callable[[], float] = random) -> None:
        self.most = max(most, 1)
        self.least = min(CALM, self.most)
        #: The accepted calls that are not over.
        self.inside = 0
        #: Whether a measurement is running.
        self.is_measuring = False
        self._exact = float(min(INITIAL, self.most))
        self._rand = rand
        self._baselines: dict[str, Baseline] = {}
        self._measuring_since = -inf
        self._measured = 0
        #: The number of windows in a row whose calls took too long although the limit is small.
        self._small = 0
        self._full_since, self._refused_at = inf, -inf
        #: The most calls that were inside since the window began.
        self._peak = 0
        self._calls, self._crowded = 0, False
        self._allowed = self._took = 0.0
        self._begin_window(now)
        self._expect_calm(now)

    @property
    def limit(self) -> int:
        """The most calls that may wait or run."""
        return int(self._exact)

    @property
    def running(self) -> int:
        """The most calls that may run at once: `limit`, and fewer during a measurement."""
        return self.least if self.is_measuring else int(self._exact)

    # --- admission --------------------------------------------------------------------------------------------------

    def may_enter(self, now: float) -> bool:
        """Whether another call may be accepted. False refuses it."""
        if self.inside < self._exact:
            self._full_since = inf
            return True
        if self._full_since == inf:
            self._full_since = now
        if now - self._full_since < BURST and now - self._refused_at > REST:
            return True
        self._refused_at = now
        return False

    def entered(self) -> None:
        """A call was accepted."""
        self.inside += 1
        if self.inside > self._peak:
            self._peak = self.inside

    def left(self) -> None:
        """An accepted call is over, whether it ran or not."""
        self.inside -= 1

    # --- durations ---------------------------------------------------------------------------------------------------

    def ended(self, method: str, waited: float, ran: float, beside: int, now: float) -> bool:
        """A call of `method` waited for `waited` seconds and ran for `ran` seconds.

        At its start and at its end at most `beside` calls ran, including itself. Returns whether `limit` or `running` may have
        changed.
        """
        baseline = self._baselines.get(method)
        if beside <= CALM and (not self.is_measuring or now - ran >= self._measuring_since):
            if baseline is None:
                baseline = self._baselines[method] = Baseline()
            baseline.saw(ran)
            self._expect_calm(now)
            self._measured += 1
        if baseline is not None and baseline.is_known:
            self._allowed += baseline.allowed
            self._took += waited + ran
        self._calls += 1
        self._crowded = self._crowded or beside > CALM
        if self.is_measuring:
            return self._measured >= MEASURED and self.end_measurement(now)
        age = now - self._window_began
        if age < WINDOW or (age < LONGEST_WINDOW and (self._calls < SAMPLES or age * self._calls < self._took)):
            return False
        if self._took:
            self._step()
        is_doubtful = self._small >= STUCK or (self._crowded and not self._took)
        is_due = now >= self._remeasure_at or (is_doubtful and now - self._measuring_since > PAUSE)
        self._begin_window(now)
        if is_due:
            self._measure(now)
        return True

    def end_measurement(self, now: float) -> bool:
        """End the running measurement. Returns False if there is none.

        Call this LONGEST_MEASUREMENT seconds after the start of a measurement.
        """
        was_measuring, self.is_measuring = self.is_measuring, False
        if was_measuring:
            for baseline in self._baselines.values():
                baseline.is_known = baseline.is_known or baseline.calls >= CALM
            self._begin_window(now)
        return was_measuring

    def _step(self) -> None:
        factor = min(1.0, max(HALF, self._allowed / self._took))
        wanted = self._exact * factor + sqrt(self._exact)
        if wanted < self._exact or self._peak >= self._exact / 2:
            smooth = self._exact + (wanted - self._exact) * STEP
            self._exact = max(float(self.least), min(float(self.most), smooth))
        self._small = self._small + 1 if self._exact < SMALL and factor < 1.0 else 0

    def _measure(self, now: float) -> None:
        self.is_measuring = True
        self._measuring_since = now
        self._measured = self._small = 0
        for baseline in self._baselines.values():
            baseline.begin_anew()
        self._expect_calm(now)

    def _expect_calm(self, now: float) -> None:
        self._remeasure_at = now + REMEASURE * (1.0 + self._rand() / 10)

    def _begin_window(self, now: float) -> None:
        self._window_began = now
        self._calls = 0
        self._crowded = False
        self._allowed = self._took = 0.0
        self._peak = self.inside
