"""What happened in the cluster, as its nodes and this process saw it: each event once, however many saw it.

Rule 1: pure; times are arguments.
Rule 2: (node, number) names an entry of a node; it is taken once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

#: Entries that are kept.
MOST_KEPT = 200

#: Seconds within which the same event, seen by several nodes, is one entry.
SAME_WITHIN = 5.0

#: What nodes tell of the directory and of links that come up: this process sees the whole directory itself.
SEEN_HERE = frozenset(("listed", "unlisted", "started", "stopped", "draining", "link up"))

#: Characters of a text of an entry.
LONGEST = 300


class Entry:
    """`kind` is what happened: joined, left, lost, back, draining, drained, ejected, restored, and what nodes tell of links."""

    __slots__ = ("number", "at", "what", "service", "instance", "detail", "seen_by")

    def __init__(self, number: int, at: float, what: str, service: str, instance: str, detail: str) -> None:
        self.number = number
        self.at = at
        self.what = what
        self.service = service
        self.instance = instance
        self.detail = detail
        #: How many saw it.
        self.seen_by = 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the page."""
        return {name: getattr(self, name) for name in self.__slots__}


class ClusterTimeline:
    """`began`: the time of this process's start. Of what was before, all is taken from the nodes."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._kept: deque[Entry] = deque(maxlen=MOST_KEPT)
        self._number = 0
        #: The highest number of each node's timeline that was taken.
        self.taken: dict[str, int] = {}

    def see(self, at: float, what: str, service: str, instance: str, detail: str = "") -> None:
        """This process saw it."""
        for entry in self._kept:
            if (entry.what, entry.service, entry.instance) == (what, service, instance) and abs(entry.at - at) <= SAME_WITHIN:
                entry.seen_by += 1
                return
        self._number += 1
        self._kept.append(Entry(self._number, at, what[:40], service, instance, detail[:LONGEST]))

    def take(self, node: str, entries: Iterable[Mapping[str, Any]], offset: float, names: Mapping[str, str]) -> None:
        """A node told it. `offset`: how far its clock is behind ours. `names`: the service of each node, for links.

        Raises KeyError, TypeError or ValueError for what is no entry.
        """
        last = self.taken.get(node, 0)
        for row in entries:
            number = int(row["number"])
            if number <= last:
                continue
            last = number
            at, what = float(row["at"]) + offset, str(row["what"])
            if what in SEEN_HERE and at >= self._began:
                continue
            instance = str(row["instance"])
            service = str(row["service"]) or names.get(instance, "")
            self.see(at, what, service, instance, str(row["detail"]))
        self.taken[node] = last

    def forget(self, node: str) -> None:
        """The node is gone; its numbers are not needed any more."""
        self.taken.pop(node, None)

    def to_list(self) -> list[dict[str, Any]]:
        """All entries, oldest first."""
        return [entry.to_dict() for entry in sorted(self._kept, key=lambda entry: (entry.at, entry.number))]
