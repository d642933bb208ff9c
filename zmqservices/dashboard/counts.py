"""The counts of nodes: in all, and within the last seconds.

Rule 1: pure; no sockets, no greenlets, no clock: the times are those in the answers.
Rule 2: when a node has reset its counts, a new window begins (see `Recent`). A difference is never negative.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from zmqservices.observability.histogram import BOUNDS, middle
from zmqservices.observability.recent import Recent

#: The key of a count: its kind, and names within the kind. See `counted`.
Key = tuple[str, ...]

#: Seconds that rates and quantiles cover.
SPAN = 10.0


class Counted:
    """How often something ended, with which errors, and how long it took. `buckets`: those of `Histogram` by index."""

    __slots__ = ("count", "errors", "buckets", "total")

    def __init__(
        self, count: int = 0, errors: dict[str, int] | None = None, buckets: dict[int, int] | None = None, total: float = 0.0
    ) -> None:
        self.count = count
        self.errors = {} if errors is None else errors
        self.buckets = {} if buckets is None else buckets
        self.total = total

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> Counted:
        """Read a row of an answer. Raises KeyError, TypeError, ValueError or AttributeError for a row of another form."""
        durations = row["durations"]
        return cls(
            int(row["count"]),
            {str(name): int(count) for name, count in row.get("errors", {}).items()},
            {_index(index): int(count) for index, count in durations["counts"].items()},
            float(durations["total"]),
        )

    @property
    def failed(self) -> int:
        """How many ended with an error."""
        return sum(self.errors.values())

    def add(self, other: Counted) -> None:
        """Count all that `other` has counted."""
        self.count += other.count
        self.total += other.total
        _add(self.errors, other.errors)
        _add(self.buckets, other.buckets)

    def since(self, former: Counted | None) -> Counted:
        """What was counted after `former`."""
        if former is None:
            return self
        return Counted(
            max(0, self.count - former.count),
            _difference(self.errors, former.errors),
            _difference(self.buckets, former.buckets),
            max(0.0, self.total - former.total),
        )

    def quantile(self, share: float) -> float | None:
        """The seconds that `share` (0 to 1) of all did not exceed; None without any."""
        # Few buckets are used, so this takes a tenth of the time of `Histogram.quantile`.
        wanted, seen = share * sum(self.buckets.values()), 0
        for index in sorted(self.buckets):
            seen += self.buckets[index]
            if seen and seen >= wanted:
                return middle(index)
        return None


def _index(text: str) -> int:
    index = int(text)
    if not 0 <= index <= len(BOUNDS):
        raise ValueError(f"a histogram has no bucket {text!r:.20}")
    return index


def _add(counts: dict[Any, int], more: Mapping[Any, int]) -> None:
    for name, count in more.items():
        counts[name] = counts.get(name, 0) + count


def _difference(newer: Mapping[Any, int], older: Mapping[Any, int]) -> dict[Any, int]:
    left = ((name, count - older.get(name, 0)) for name, count in newer.items())
    return {name: count for name, count in left if count > 0}


def counted(answer: Mapping[str, Any]) -> dict[Key, Counted]:
    """All counts of an answer to `stats`. Raises what `Counted.read` raises.

    The keys: ("method", service, instance, kind, method, event, group), ("call", caller, service, method), ("http", service,
    method, route, status), ("dispatched", source, type), and ("acked" | "failed" | "dead" | "lost", source, group).
    """
    found: dict[Key, Counted] = {}
    for instance in answer["instances"]:
        for row in instance["methods"]:
            names = (instance["service"], instance["instance"], row["kind"], row["method"], row["event"], row["group"])
            _put(found, ("method", *names), Counted.read(row))
    for row in answer["calls"]:
        _put(found, ("call", row["caller"], row["service"], row["method"]), Counted.read(row))
    for row in answer["requests"]:
        _put(found, ("http", row["service"], row["method"], row["route"], row["status"]), Counted.read(row))
    for row in answer["dispatched"]:
        _put(found, ("dispatched", row["source"], row["type"]), Counted.read(row))
    for row in answer["groups"]:
        for name in ("acked", "failed", "dead", "lost"):
            # Each journal's row of a group repeats these, so do not add them up.
            found[(name, str(row["source"]), str(row["group"]))] = Counted(int(row[name]))
    return found


def _put(found: dict[Key, Counted], names: Iterable[Any], row: Counted) -> None:
    # Texts, also where a node told a number: the keys of several nodes are sorted together.
    key = tuple(map(str, names))
    known = found.get(key)
    if known is None:
        found[key] = row
    else:
        known.add(row)


class Window(Recent[dict[Key, Counted]]):
    """The answers of one node in the last SPAN seconds."""

    def __init__(self) -> None:
        super().__init__(SPAN)
        #: The result of `recent`, until the next answer: pictures are made more often than one node answers.
        self._recent: dict[Key, Counted] | None = None

    def take(self, answer: Mapping[str, Any]) -> None:
        """Add an answer to `stats`. Raises what `counted` raises, and is unchanged then."""
        self.add(answer, counted(answer))
        self._recent = None

    def total(self) -> dict[Key, Counted]:
        """Everything since the node began to count."""
        return self.newest if len(self) else {}

    def recent(self) -> dict[Key, Counted]:
        """The counts within the window; empty until there are two answers."""
        if len(self) < 2:
            return {}
        if self._recent is None:
            older = self.oldest
            recent = ((key, newer.since(older.get(key))) for key, newer in self.newest.items())
            self._recent = {key: one for key, one in recent if one.count}
        return self._recent


class Flow:
    """A rate per second, added up over nodes whose windows differ in length."""

    __slots__ = ("rate", "error_rate", "counted")

    def __init__(self) -> None:
        self.rate = self.error_rate = 0.0
        self.counted = Counted()

    def add(self, recent: Counted, seconds: float, failed: int | None = None) -> None:
        """Add what one node counted in `seconds`. `failed`: the number of errors, if the rows do not have them."""
        self.rate += recent.count / seconds
        self.error_rate += (recent.failed if failed is None else failed) / seconds
        self.counted.add(recent)

    def to_dict(self) -> dict[str, Any]:
        """`rate` and `errors` per second; `p99` in seconds, None without any."""
        return {"rate": round(self.rate, 3), "errors": round(self.error_rate, 3), "p99": shortened(self.counted.quantile(0.99))}


def shortened(seconds: float | None) -> float | None:
    """The same in three digits: a quantile is known to 6 %, and a page gets very many of them."""
    return None if seconds is None else float(f"{seconds:.3g}")


def summed(flows: Iterable[tuple[Counted, float]]) -> Flow:
    """One flow of the counts of several nodes."""
    flow = Flow()
    for recent, seconds in flows:
        flow.add(recent, seconds)
    return flow
