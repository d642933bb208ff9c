"""How many calls a service takes at once, by how long they take (`max_workers: auto`).

The rule is that of gradient concurrency limits: Netflix's concurrency-limits ("Performance Under Load", 2018) and the gradient
controller of Envoy's adaptive concurrency filter, from which the headroom, the calm minimum and its renewed measurement are.

Rule 1: no greenlets, no clock here; `now` is always an argument, seconds.
Rule 2: each method has a baseline: how long it runs while no more than CALM calls run. A call is slow when it takes longer than
TOLERANCE times that, and SLACK longer, its wait included.
Rule 3: after each window the limit is multiplied by the time that calls may take over the time that they took, at least by HALF
and at most by 1, and the root of the limit is added: room for a small queue, and for growth. It grows only where it is used.
Rule 4: baselines come from calls that ran in calm anyway. Where there were none for REMEASURE seconds, or the limit has been
small for STUCK windows, no more than CALM calls run until MEASURED of them are over, or LONGEST_MEASUREMENT is. The others
wait meanwhile; none is refused for it.
Rule 5: a burst is no overload. For BURST seconds the limit may be exceeded, if nothing was refused for REST seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, sqrt
from random import random

#: Calls that run side by side without being in each other's way; also the least limit.
CALM = 3
#: The limit before anything is known, and the most that it may be where nothing else is said.
INITIAL, DEFAULT_MOST = 10, 100

#: How many times its baseline a call may take, and how many seconds longer: whichever is more.
TOLERANCE, SLACK = 1.5, 0.01
#: The least factor of one step, and the part of a step that is made: the calls of a window saw earlier limits as well.
HALF, STEP = 0.5, 0.6
#: Seconds of a window at least, the calls that it needs, and its seconds at most. If it can, it is as long as its calls take:
#: in a shorter one most would have begun under an earlier limit.
WINDOW, SAMPLES, LONGEST_WINDOW = 0.2, 20, 1.0

#: Seconds without a call in calm after which there is a measurement; up to a tenth more, so that instances take turns.
REMEASURE = 60.0
#: Windows with less than SMALL after which there is a measurement: what runs may have become slower, rather than more.
STUCK, SMALL = 5, 2 * CALM
#: Calls of a measurement. A baseline is their mean, and later a moving average over as many.
MEASURED = 30
#: Calls after which a baseline is one: of those that end first, when many begin together, all are short.
KNOWN = 10
#: Seconds of a measurement at most, and those from its begin to the next one for any reason but REMEASURE.
LONGEST_MEASUREMENT, PAUSE = 5.0, 15.0

#: Seconds for which a burst may exceed the limit, and those without a refusal that must have gone before.
BURST, REST = 0.1, 1.0


class Baseline:
    """How long one method runs in calm: the mean of its last calls."""

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
        """What was seen before counts for no more than one call."""
        self.calls = min(self.calls, 1)

    @property
    def allowed(self) -> float:
        """Seconds that a call may take from its arrival to its end."""
        return max(self.seconds * TOLERANCE, self.seconds + SLACK)


class ConcurrencyLimit:
    """The limit of one service. Ask `may_enter` for each call; tell `left` of each that was let in, and `ended` of each that ran.

    `most` bounds the limit, and CALM does from below.
    """

    def __init__(self, now: float, most: int = DEFAULT_MOST, rand: Callable[[], float] = random) -> None:
        self.most = max(most, 1)
        self.least = min(CALM, self.most)
        #: Calls that were let in and have not left.
        self.inside = 0
        #: Whether a measurement is under way, and since when.
        self.is_measuring = False
        self._exact = float(min(INITIAL, self.most))
        self._rand = rand
        self._baselines: dict[str, Baseline] = {}
        self._measuring_since = -inf
        self._measured = 0
        #: Windows in a row whose calls took too long although the limit is small.
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
        """How many calls may be under way: those that wait and those that run."""
        return int(self._exact)

    @property
    def running(self) -> int:
        """How many calls may run at once: `limit`, and fewer during a measurement."""
        return self.least if self.is_measuring else int(self._exact)

    # --- who may come --------------------------------------------------------------------------------------------------

    def may_enter(self, now: float) -> bool:
        """Whether one more call may come; False is a refusal."""
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
        """A call was let in."""
        self.inside += 1
        if self.inside > self._peak:
            self._peak = self.inside

    def left(self) -> None:
        """A call that was let in is over, whether it ran or not."""
        self.inside -= 1

    # --- what was seen ---------------------------------------------------------------------------------------------------

    def ended(self, method: str, waited: float, ran: float, beside: int, now: float) -> bool:
        """A call of `method` waited and ran so long; at most `beside` calls ran at its begin and at its end, itself included.

        Answers whether `limit` or `running` may have changed.
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
        """End the measurement that is under way; to be called LONGEST_MEASUREMENT after its begin. False if there is none."""
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
