"""What happened in the cluster, as its nodes and this process saw it. Each event is one entry, however many saw it.

Rule 1: pure; times are arguments.
Rule 2: (node, number) identifies an entry of a node, which is taken once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any

#: The most entries that are kept.
MOST_KEPT = 200

#: The same event, seen by several nodes within so many seconds, is one entry.
SAME_WITHIN = 5.0

#: Entries of nodes that are left out, since this process sees the whole directory itself.
SEEN_HERE = frozenset(("listed", "unlisted", "started", "stopped", "draining", "link up"))

#: The prefix of publishers' names in the directory. A publisher comes and goes with a service of its process, which has an entry.
PUBLISHERS = "events:"

#: What a node tells of a link that broke. Its entry has the id of the other node as the instance.
LINK_LOST = "link lost"

#: The most lost nodes that are remembered.
MOST_LOST = 1000

#: The most characters of a text of an entry.
LONGEST = 300


class Entry:
    """One event. `what`: joined, left, lost, back, draining, drained, ejected, restored, or a change of a link."""

    __slots__ = ("number", "at", "what", "service", "instance", "detail", "seen_by")

    def __init__(self, number: int, at: float, what: str, service: str, instance: str, detail: str) -> None:
        self.number = number
        self.at = at
        self.what = what
        self.service = service
        self.instance = instance
        self.detail = detail
        #: How many nodes saw it.
        self.seen_by = 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the page."""
        return {name: getattr(self, name) for name in self.__slots__}


class ClusterTimeline:
    """`began`: the start of this process. Everything from before that comes from the nodes."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._kept: list[Entry] = []
        self._number = 0
        #: By node: the highest number of its timeline that was taken.
        self.taken: dict[str, int] = {}
        #: By node that this process lost: when. That others lost their links to it is the same event.
        self._lost: dict[str, float] = {}
        #: Grows with every change of what `to_list` returns.
        self.version = 0

    def see(self, at: float, what: str, service: str, instance: str, detail: str = "") -> None:
        """Add an event that this process saw."""
        for entry in self._kept:
            if (entry.what, entry.service, entry.instance) == (what, service, instance) and abs(entry.at - at) <= SAME_WITHIN:
                entry.seen_by += 1
                self.version += 1
                return
        if len(self._kept) >= MOST_KEPT:
            # Nodes answer one after the other, so what came last is not always the newest.
            oldest = min(self._kept, key=_age)
            if at < oldest.at:
                return
            self._kept.remove(oldest)
        self._number += 1
        self.version += 1
        self._kept.append(Entry(self._number, at, what[:40], service, instance, detail[:LONGEST]))

    def take(self, node: str, entries: Iterable[Mapping[str, Any]], offset: float, names: Mapping[str, str]) -> None:
        """Add the new entries of a node. `offset`: seconds that its clock is behind ours. `names`: the service of each node.

        Raises KeyError, TypeError or ValueError for an entry of another form.
        """
        last = self.taken.get(node, 0)
        for row in entries:
            number = int(row["number"])
            if number <= last:
                continue
            last = number
            at, what = finite(row["at"]) + offset, str(row["what"])
            if (what in SEEN_HERE and at >= self._began) or str(row["service"]).startswith(PUBLISHERS):
                continue
            instance = str(row["instance"])
            if what == LINK_LOST and abs(at - self._lost.get(instance, 0.0)) <= SAME_WITHIN:
                continue
            service = str(row["service"]) or names.get(instance, "")
            self.see(at, what, service, instance, str(row["detail"]))
        self.taken[node] = last

    def lose(self, node: str, at: float) -> None:
        """This process lost a node: leave out that others lost their links to it then."""
        self._lost.pop(node, None)
        self._lost[node] = at
        if len(self._lost) > MOST_LOST:
            del self._lost[next(iter(self._lost))]  # The one that was lost first.
        kept = [one for one in self._kept if one.what != LINK_LOST or one.instance != node or abs(at - one.at) > SAME_WITHIN]
        if len(kept) < len(self._kept):
            self._kept = kept
            self.version += 1

    def forget(self, node: str) -> None:
        """Forget the numbers of a node that is gone."""
        self.taken.pop(node, None)

    def to_list(self) -> list[dict[str, Any]]:
        """All entries, oldest first."""
        return [entry.to_dict() for entry in sorted(self._kept, key=_age)]


def finite(value: Any) -> float:
    """A number of a node as a float. Raises ValueError for an infinite one and for NaN: JSON has neither."""
    number = float(value)
    if not isfinite(number):
        raise ValueError(f"{number} is not a finite number")
    return number


def _age(entry: Entry) -> tuple[float, int]:
    return entry.at, entry.number
