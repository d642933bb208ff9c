"""The adaptive concurrency limit of a service, which follows the durations of its calls (`max_workers: auto`).

The rule is that of gradient concurrency limits: Netflix's concurrency-limits ("Performance Under Load", 2018) and the gradient
controller of Envoy's adaptive concurrency filter, from which the headroom, the calm minimum and its renewed measurement are.

Rule 1: no greenlets, no clock here; `now` is always an argument, seconds.
Rule 2: each method has a baseline: its duration while at most CALM calls run. A call is slow if it takes, with its wait, more
than TOLERANCE times as long, and SLACK seconds longer.
Rule 3: after each window, the limit is multiplied by the allowed duration of calls divided by their real one, but by at least
HALF and at most 1. Then the square root of the limit is added, as room for a small queue and for growth. It only grows if it is
used.
Rule 4: baselines are taken from calls that happen to run in calm. If there were none for REMEASURE seconds, or the limit has been
small for STUCK windows, at most CALM calls run until MEASURED of them, or LONGEST_MEASUREMENT seconds, are over. Other calls wait
meanwhile; none is refused because of it.
Rule 5: a burst is no overload. For BURST seconds the limit may be exceeded if no call was refused for REST seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, sqrt
from random import random

#: So many calls can run at the same time without slowing each other down. Also the least limit.
CALM = 3
#: The first limit, and by default the highest one.
INITIAL, DEFAULT_MOST = 10, 100

#: How many times as long as its baseline a call may take, and how many seconds longer; the larger of both counts.
TOLERANCE, SLACK = 1.5, 0.01
#: The least factor of one step, and the part of a step that is made, because calls of a window began under earlier limits.
HALF, STEP = 0.5, 0.6
#: The shortest window in seconds, the calls that it needs, and the longest window. Within these bounds it is as long as its calls
#: take, because in a shorter window most calls would have begun under an earlier limit.
WINDOW, SAMPLES, LONGEST_WINDOW = 0.2, 20, 1.0

#: Seconds without a call in calm after which a measurement begins; up to a tenth more, so that instances do not measure together.
REMEASURE = 60.0
#: Windows with a limit below SMALL after which a measurement begins, because the methods themselves may have become slower.
STUCK, SMALL = 5, 2 * CALM
#: The calls of a measurement. A baseline is their mean, and later a moving average over as many calls.
MEASURED = 30
#: The fewest calls for a baseline. If many calls begin together, the first ones that end are all short.
KNOWN = 10
#: The longest measurement in seconds, and the seconds from its beginning to the next one for another reason than REMEASURE.
LONGEST_MEASUREMENT, PAUSE = 5.0, 15.0

#: Seconds for which a burst may exceed the limit, and the seconds without a refusal that must precede it.
BURST, REST = 0.1, 1.0


class Baseline:
    """The duration of one method in calm: the mean of its last calls."""

    __slots__ = ("seconds", "calls", "is_known")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.calls = 0
        self.is_known = False

    def saw(self, ran: float) -> None:
        if self.calls < MEASURED:
            self.calls += 1
        self.seconds += (ran - self.seconds) / self.calls
        self.is_known = self.is_known or self.calls >= KNOWN

    def begin_anew(self) -> None:
        """Let all earlier durations together count as one call."""
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
        #: The accepted calls that have not left.
        self.inside = 0
        #: Whether a measurement is running, and when it began.
        self.is_measuring = False
        self._exact = float(min(INITIAL, self.most))
        self._rand = rand
        self._baselines: dict[str, Baseline] = {}
        self._measuring_since = -inf
        self._measured = 0
        #: The windows in a row whose calls took too long although the limit is small.
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
        """A call of `method` waited and ran for so many seconds, with at most `beside` calls running (with itself) at both ends.

        Returns whether `limit` or `running` may have changed.
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
        """End the running measurement.

        To be called LONGEST_MEASUREMENT seconds after its beginning. Returns False if there is none.
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
