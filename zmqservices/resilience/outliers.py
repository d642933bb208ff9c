"""Outlier ejection: an instance that fails far more than the others gets no calls for a while.

Rule 1: no sockets, no clock here; `now` is always an argument.
Rule 2: only failures of the infrastructure count: lost links, calls without an answer in time, refusals because of a full
queue. An error that a method raised is an answer.
Rule 3: an instance is an outlier after `failures` failed calls in a row, or when `error_rate` of its calls within WINDOW seconds
failed, or when it is `latency` times slower than the others.
Rule 4: an outlier is ejected for `ejection` seconds. Each ejection shortly before makes the next one longer by the same time.
Rule 5: at most half of the instances are ejected. If more than half are outliers, the cause is elsewhere: all return, and no
instance is ejected for `ejection` seconds (panic mode).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Generic, Protocol, TypeVar

from zmqservices.resilience.balance import Load

#: Seconds over which the error rate is taken, and the fewest failures for which it counts.
WINDOW, LEAST_FAILURES = 10.0, 10

#: An instance that is slower by fewer seconds than this is no outlier: it may only be farther away.
LEAST_DELAY = 0.1

#: The largest deviation, as a part of the average latency, with which the latency counts. The first answer is assumed to be off
#: by half, so five answers must agree. One slow answer, to a first call or from a stalled process, does not eject an instance.
MOST_DEVIATION = 1 / 3

#: The longest ejection, in multiples of the first.
LONGEST_EJECTION = 6


@dataclass(frozen=True)
class OutlierRules:
    """The settings of outlier ejection. `ejection`: seconds, 0 switches it off. A 0 in another field switches that reason off."""

    ejection: float
    failures: int
    error_rate: float
    latency: float


class Health:
    """The failures of one instance, as this process sees them."""

    __slots__ = (
        "ejected_until", "why", "ejections", "returned_at", "_row", "_answers", "_failed", "_answered_before", "_since",
    )  # fmt: skip

    def __init__(self) -> None:
        #: The time at which the ejection ends; 0 if the instance is not ejected.
        self.ejected_until = 0.0
        #: The reason of the last ejection.
        self.why = ""
        #: The number of ejections, less one for each period of `ejection` seconds that went well.
        self.ejections = 0
        self.returned_at = 0.0
        self._forget(0, 0.0)

    def _forget(self, answers: int, now: float) -> None:
        #: Failures in a row, and the number of answers at the last of them.
        self._row, self._answers = 0, answers
        #: Failures since `_since`, and the number of answers at that time.
        self._failed, self._answered_before, self._since = 0, answers, now

    def failed(self, load: Load, now: float) -> None:
        """A call failed because of the infrastructure (rule 2)."""
        if load.answers != self._answers:
            self._row, self._answers = 0, load.answers
        self._row += 1
        if now - self._since > WINDOW:
            self._failed, self._answered_before, self._since = 0, load.answers, now
        self._failed += 1

    def reason(self, rules: OutlierRules, load: Load) -> str:
        """The reason why its failures make the instance an outlier; "" if they do not."""
        row = self._row if load.answers == self._answers else 0
        if rules.failures and row >= rules.failures:
            return f"{row} calls in a row failed"
        answered = load.answers - self._answered_before
        if rules.error_rate and self._failed >= LEAST_FAILURES and self._failed >= rules.error_rate * (self._failed + answered):
            return f"{self._failed} of {self._failed + answered} calls failed"
        return ""

    def eject(self, why: str, load: Load, ejection: float, now: float) -> None:
        quiet = int((now - self.returned_at) / ejection) if self.returned_at else 0
        self.ejections = max(self.ejections - quiet, 0) + 1
        self.ejected_until = now + ejection * min(self.ejections, LONGEST_EJECTION)
        self.why = why
        self._forget(load.answers, now)

    def restore(self, load: Load, now: float) -> None:
        """The instance gets calls again, and its failures are forgotten."""
        self.returned_at = min(now, self.ejected_until) or now
        self.ejected_until = 0.0
        self._forget(load.answers, now)


class Judged(Protocol):
    load: Load
    health: Health


M = TypeVar("M", bound=Judged)


@dataclass
class Verdict(Generic[M]):
    """The changes of one judgement: the ejected members, the members that returned, and whether panic mode began."""

    ejected: list[M] = field(default_factory=list)
    restored: list[M] = field(default_factory=list)
    panics: bool = False

    @property
    def changes(self) -> bool:
        return bool(self.ejected or self.restored)


class Outliers:
    """The outliers of one service."""

    __slots__ = ("_rules", "panic_until")

    def __init__(self, rules: OutlierRules) -> None:
        self._rules = rules
        #: The time until which no instance is ejected.
        self.panic_until = 0.0

    def judge(self, members: Sequence[M], now: float) -> Verdict[M]:
        """Eject and restore members, and return the changes. To be called after failures, and from time to time."""
        verdict: Verdict[M] = Verdict()
        for member in members:
            if 0.0 < member.health.ejected_until <= now:
                member.health.restore(member.load, now)
                verdict.restored.append(member)
        if now < self.panic_until or not self._rules.ejection:
            return verdict
        reasons = dict(self._reasons(members))
        already = [member for member in members if member.health.ejected_until]
        if len(reasons) + len(already) > len(members) // 2:
            if len(members) > 1 and reasons:
                self._panic(members, already, verdict, now)
            return verdict
        for position, why in reasons.items():
            member = members[position]
            member.health.eject(why, member.load, self._rules.ejection, now)
            verdict.ejected.append(member)
        return verdict

    def _panic(self, members: Sequence[M], ejected: list[M], verdict: Verdict[M], now: float) -> None:
        self.panic_until = now + self._rules.ejection
        verdict.panics = True
        verdict.restored += ejected
        for member in members:
            member.health.restore(member.load, now)

    def _reasons(self, members: Sequence[M]) -> Iterator[tuple[int, str]]:
        slow = dict(self._too_slow(members)) if self._rules.latency else {}
        for position, member in enumerate(members):
            if not member.health.ejected_until:
                why = member.health.reason(self._rules, member.load) or slow.get(position)
                if why:
                    yield position, why

    def _too_slow(self, members: Sequence[M]) -> Iterator[tuple[int, str]]:
        by_method: dict[str, list[tuple[float, float, int]]] = {}
        certain: dict[str, list[tuple[float, float, int]]] = {}
        for position, member in enumerate(members):
            if not member.health.ejected_until:
                for method, pace in member.load.paces.items():
                    found = (pace.latency, pace.deviation, position)
                    by_method.setdefault(method, []).append(found)
                    # Latencies that were measured before an ejection are no reason for the next one.
                    if pace.deviation < MOST_DEVIATION * pace.latency and pace.seen_at >= member.health.returned_at:
                        certain.setdefault(method, []).append(found)
        for method, measured in certain.items():
            latency, deviation, position = max(measured)
            others = [each for each, _, other in by_method[method] if other != position]
            if others:
                usual, surely = median(others), latency - deviation
                if surely > self._rules.latency * usual and surely - usual > LEAST_DELAY:
                    yield position, f"{method!r} takes {latency:.3g} s there and {usual:.3g} s elsewhere"
