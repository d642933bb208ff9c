"""Compares two files of results, and finds the differences that are larger than the noise of the machine.

Rule 1: pure.
Rule 2: machines drift, so a figure is first divided by the yardstick's of the same round, where both files have it.
Rule 3: a change counts when the ranks of the two samples would hardly fall so by chance, and when it is large enough to
        matter. Fewer than four rounds a side can prove nothing, and that is said.
"""

from __future__ import annotations

import enum
import itertools
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench import summary, table
from bench.summary import Line

#: The accepted chance of a false alarm per comparison; five rounds on each side can reach 0.008.
ALPHA = 0.03
#: Up to so many arrangements, all are examined; beyond, so many are drawn at random.
EXACT = 20_000
#: The figures that are compared, and for each whether more is better.
METRICS = {"rate": True, "cpu_us": False, "p50_us": False, "p99_us": False}
#: Figures of cases that time a start.
START_METRICS = {"first_answer_s": False, "server_rss_mb": False}
#: A spread of the rounds from which a warning says that only large changes can be seen.
NOISY = 0.15
#: Figures whose tail is too wild for a verdict on its own: shown, never a regression.
SHOWN_ONLY = {"p99_us"}


class Verdict(enum.Enum):
    """The verdict on one figure."""

    BETTER = "better"
    WORSE = "WORSE"
    SAME = "no difference beyond noise"
    UNKNOWN = "too few rounds to tell"


@dataclass(frozen=True)
class Change:
    """One figure of one subject in one case, before and after; `ratio` is new to old."""

    subject: str
    case: str
    metric: str
    ratio: float
    noise: float
    chance: float
    verdict: Verdict
    is_relative: bool

    @property
    def is_regression(self) -> bool:
        return self.verdict is Verdict.WORSE and self.metric not in SHOWN_ONLY


def compare(
    old: Sequence[Line], new: Sequence[Line], against: str | None = "pyzmq", least: float = 0.03
) -> list[Change]:
    """Compare every figure that both have. `least`: a change that counts is at least this part of the value."""
    before, after = summary.measured(old), summary.measured(new)
    changes = []
    for case, subject in before.keys() & after.keys():
        yardstick = (case, against or "")
        is_relative = subject != against and yardstick in before and yardstick in after
        for metric, more_is_better in (START_METRICS if case == "start" else METRICS).items():
            # Memory and starting are the machine's own; dividing them by a yardstick would only add its noise.
            relative = is_relative and case != "start"
            values = [
                _values(found[case, subject], found[yardstick] if relative else None, metric) for found in (before, after)
            ]
            if all(values):
                changes.append(_judge(subject, case, metric, values[0], values[1], more_is_better, least, relative))
    return sorted(changes, key=lambda change: (change.subject, change.case, change.metric))


def _values(lines: Mapping[int, Line], yardstick: Mapping[int, Line] | None, metric: str) -> list[float]:
    if yardstick is None:
        return [line[metric] for line in lines.values() if line.get(metric) is not None]
    return summary.ratios(lines, yardstick, metric)


def _judge(
    subject: str, case: str, metric: str, old: list[float], new: list[float], more_is_better: bool, least: float, relative: bool
) -> Change:
    ratio = summary.median(new) / summary.median(old)
    chance = by_chance(old, new)
    noise = max((found for found in (summary.spread(old), summary.spread(new)) if not math.isnan(found)), default=math.nan)
    if _smallest_chance(len(old), len(new)) > ALPHA:
        verdict = Verdict.UNKNOWN
    elif chance > ALPHA or abs(ratio - 1) < least:
        verdict = Verdict.SAME
    else:
        verdict = Verdict.BETTER if (ratio > 1) == more_is_better else Verdict.WORSE
    return Change(subject, case, metric, ratio, noise, chance, verdict, relative)


def _smallest_chance(first: int, second: int) -> float:
    return 2 / math.comb(first + second, first)


def by_chance(first: Sequence[float], second: Sequence[float]) -> float:
    """How likely two samples of the same thing differ at least so much, by their ranks (Mann and Whitney, two-sided).

    Exact for small samples; else estimated from drawn arrangements, always the same ones.
    """
    pooled = [*first, *second]
    ranks = _ranks(pooled)
    middle = len(first) * (len(pooled) + 1) / 2
    seen = abs(sum(ranks[: len(first)]) - middle) - 1e-9
    places = range(len(pooled))
    chosen: Iterable[Sequence[int]]
    if math.comb(len(pooled), len(first)) <= EXACT:
        chosen = itertools.combinations(places, len(first))
    else:
        drawn = random.Random(1)
        chosen = (drawn.sample(places, len(first)) for _ in range(EXACT))
    outcomes = [abs(sum(ranks[place] for place in part) - middle) >= seen for part in chosen]
    return sum(outcomes) / len(outcomes)


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1, equal values sharing theirs."""
    ordered = sorted(values)
    first: dict[float, int] = {}
    for place, value in enumerate(ordered, 1):
        first.setdefault(value, place)
    return [first[value] + (ordered.count(value) - 1) / 2 for value in values]


def text(changes: Sequence[Change]) -> str:
    """A row for each figure, and a sentence at the end."""
    headings = ["", "case", "figure", "new / old", "noise", "by chance", ""]
    rows = [
        [
            change.subject, change.case, change.metric + (" (to yardstick)" if change.is_relative else ""),
            table.number(change.ratio, 3), table.percent(change.noise), f"{change.chance:.3f}", change.verdict.value,
        ]
        for change in changes
    ]  # fmt: skip
    worse = [change for change in changes if change.is_regression]
    if not changes:
        told = "Nothing was measured in both."
    elif worse:
        told = f"{len(worse)} of {len(changes)} figures got WORSE: " + ", ".join(
            f"{change.subject} {change.case} {change.metric} x {change.ratio:.2f}" for change in worse
        )
    elif all(change.verdict is Verdict.UNKNOWN for change in changes):
        told = "Too few rounds to tell anything; measure five or more."
    else:
        told = "No regression was seen."
    noise = summary.median(change.noise for change in changes if change.metric in ("rate", "cpu_us"))
    if noise > NOISY:
        told += f" Rounds differed by {noise:.0%} among themselves: smaller changes than about that cannot be seen here."
    return f"{table.grid(headings, rows)}\n\n{told}"
