"""Figures of many measurements: percentiles, medians, spreads, ratios within the round.

Rule 1: pure; a measurement is the mapping that a line of JSON holds.
Rule 2: what failed is counted and shown, never averaged away.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Line = Mapping[str, Any]

#: The latencies that a line gives, in percent.
PERCENTILES = {"p50_us": 50.0, "p99_us": 99.0, "p999_us": 99.9}


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all are not above (nearest rank). NaN where there is none."""
    if not ordered:
        return math.nan
    rank = math.ceil(percent / 100 * len(ordered))
    return ordered[min(max(rank, 1), len(ordered)) - 1]


def latencies(samples: Iterable[float]) -> dict[str, float]:
    """Percentiles, mean and maximum of latencies, rounded to tenths."""
    ordered = sorted(samples)
    found = {name: percentile(ordered, percent) for name, percent in PERCENTILES.items()}
    found["mean_us"] = statistics.fmean(ordered) if ordered else math.nan
    found["max_us"] = ordered[-1] if ordered else math.nan
    return {name: round(value, 1) for name, value in found.items()}


def median(values: Iterable[float]) -> float:
    """NaN where there is none."""
    known = [value for value in values if value is not None and not math.isnan(value)]
    return statistics.median(known) if known else math.nan


def spread(values: Iterable[float]) -> float:
    """How far apart rounds were: (largest - smallest) / median. NaN for fewer than two."""
    known = [value for value in values if value is not None and not math.isnan(value)]
    middle = median(known)
    return (max(known) - min(known)) / middle if len(known) > 1 and middle else math.nan


def measured(lines: Iterable[Line]) -> dict[tuple[str, str], dict[int, Line]]:
    """Lines that carry a result, by case and subject, then by round."""
    found: dict[tuple[str, str], dict[int, Line]] = {}
    for line in lines:
        if line.get("kind") == "rpc" and "failed" not in line:
            found.setdefault((line["case"], line["subject"]), {})[line["round"]] = line
    return found


def failures(lines: Iterable[Line]) -> dict[str, list[str]]:
    """Why a subject, or one case of it, was not measured: each reason once."""
    found: dict[str, list[str]] = {}
    for line in lines:
        if "failed" in line:
            where = f"{line['subject']}" + (f", {line['case']}" if line.get("case") else "")
            reasons = found.setdefault(where, [])
            if line["failed"] not in reasons:
                reasons.append(line["failed"])
    return found


def ratios(lines: Mapping[int, Line], yardstick: Mapping[int, Line], metric: str) -> list[float]:
    """`metric` of each round as a multiple of the yardstick's in the same round; rounds that lack either are left out."""
    return [
        lines[number][metric] / yardstick[number][metric]
        for number in sorted(lines.keys() & yardstick.keys())
        if lines[number].get(metric) is not None and yardstick[number].get(metric)
    ]
