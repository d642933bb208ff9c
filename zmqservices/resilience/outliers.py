"""Which instances of a service fail so much more than the others that they get no calls for a while (outlier ejection).

Rule 1: no sockets, no clock here; `now` is always an argument.
Rule 2: only failures of the infrastructure count: lost links, answers that did not come in time, refusals of a full instance.
An error that a method raised is an answer.
Rule 3: an instance is an outlier after `failures` in a row, or when `error_rate` of what it was asked within WINDOW seconds
failed, or when it is `latency` times slower than the others.
Rule 4: an outlier is ejected for `ejection` seconds, and for as many times as long as it was ejected shortly before.
Rule 5: at most half of the instances are ejected. When more than half are outliers, the fault is not theirs: all return, and
nobody is ejected for `ejection` seconds (panic mode).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Generic, Protocol, TypeVar

from zmqservices.resilience.balance import Load

#: Seconds over which the error rate is taken, and the failures that there are at least before it says anything.
WINDOW, LEAST_FAILURES = 10.0, 10

#: Seconds that an instance is slower at least before the ratio of latencies says anything. A nearer instance is no reason.
LEAST_DELAY = 0.1

#: How far answers may be from the average, as a part of it, before it says anything. The first answer is taken to be off by
#: half, so this takes five answers that agree: one slow answer, to a first call or in a stalled process, is no reason.
MOST_DEVIATION = 1 / 3

#: The longest ejection, in multiples of the first.
LONGEST_EJECTION = 6


@dataclass(frozen=True)
class OutlierRules:
    """`ejection` in seconds; 0 ejects nobody. A 0 anywhere else switches that reason off."""

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
        #: 0 unless the instance is ejected.
        self.ejected_until = 0.0
        #: Why it was ejected last.
        self.why = ""
        #: How often it was ejected, one less for each ejection's time that went well.
        self.ejections = 0
        self.returned_at = 0.0
        self._forget(0, 0.0)

    def _forget(self, answers: int, now: float) -> None:
        #: Failures in a row, and how many answers there were at the last of them.
        self._row, self._answers = 0, answers
        #: Failures since `_since`, and how many answers there were then.
        self._failed, self._answered_before, self._since = 0, answers, now

    def failed(self, load: Load, now: float) -> None:
        """A call there failed by a fault of the infrastructure."""
        if load.answers != self._answers:
            self._row, self._answers = 0, load.answers
        self._row += 1
        if now - self._since > WINDOW:
            self._failed, self._answered_before, self._since = 0, load.answers, now
        self._failed += 1

    def reason(self, rules: OutlierRules, load: Load) -> str:
        """Why the failures make it an outlier; "" if they do not."""
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
        """It gets calls again, and begins anew."""
        self.returned_at = min(now, self.ejected_until) or now
        self.ejected_until = 0.0
        self._forget(load.answers, now)


class Judged(Protocol):
    load: Load
    health: Health


M = TypeVar("M", bound=Judged)


@dataclass
class Verdict(Generic[M]):
    """What has changed: members that were ejected, those that returned, and whether panic mode began."""

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
        #: Until when nobody is ejected.
        self.panic_until = 0.0

    def judge(self, members: Sequence[M], now: float) -> Verdict[M]:
        """To be called after failures, and once in a while. Ejects and restores; answers what has changed."""
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
                    # What was measured before an ejection is no reason for the next.
                    if pace.deviation < MOST_DEVIATION * pace.latency and pace.seen_at >= member.health.returned_at:
                        certain.setdefault(method, []).append(found)
        for method, measured in certain.items():
            latency, deviation, position = max(measured)
            others = [each for each, _, other in by_method[method] if other != position]
            if others:
                usual, surely = median(others), latency - deviation
                if surely > self._rules.latency * usual and surely - usual > LEAST_DELAY:
                    yield position, f"{method!r} takes {latency:.3g} s there and {usual:.3g} s elsewhere"
