"""The parts of `zmqservices stats` besides counts: the calls that have run the longest, and what happened in the cluster lately.

Pure: answers of nodes in, rows out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from zmqservices.dashboard.timeline import ClusterTimeline

#: A call that has run for so many seconds is shown.
LONG = 1.0
#: The most rows of each of the two tables.
MOST_ROWS = 10
#: Entries that are left out: they do not help to find a fault.
NO_NEWS = frozenset(("link up", "listed", "started"))


def happened(answers: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The timelines of these nodes as one, oldest first. An event that several nodes saw is one entry, see `seen_by`."""
    answers = list(answers)
    # `inf`: this process saw nothing itself, so all entries are taken from the nodes.
    timeline = ClusterTimeline(math.inf)
    names = {_node(answer): str(one["service"]) for answer in answers for one in answer.get("instances", ())}
    for answer in answers:
        # Left out here, so that they do not take the place of others: the timeline is bounded.
        news = [row for row in answer.get("timeline", ()) if row["what"] not in NO_NEWS]
        timeline.take(_node(answer), news, 0.0, names)
    return [{key: value for key, value in entry.items() if key != "number"} for entry in timeline.to_list()]


def _node(answer: Mapping[str, Any]) -> str:
    return str(answer.get("node", ""))


def longest(instances: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The running calls of these instances, the longest first."""
    found = [{"instance": instance["instance"], **one} for instance in instances for one in instance.get("longest", ())]
    return sorted(found, key=lambda one: -float(one["seconds"]))[:MOST_ROWS]


def running_rows(told: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The calls that have run for long as a table; empty if there are none. `told` is the result of `nodes.summed`."""
    found = [(service["service"], one) for service in told for one in service["longest"] if one["seconds"] >= LONG]
    found.sort(key=lambda pair: -float(pair[1]["seconds"]))
    rows = [
        (service, one["instance"], one["method"], f"{one['seconds']:.1f} s", one["call_id"], one["caller"] or "-")
        for service, one in found[:MOST_ROWS]
    ]
    return [("RUNS NOW", "INSTANCE", "METHOD", "FOR", "CALL", "CALLED BY"), *rows] if rows else []


def happened_rows(entries: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The last entries as a table, oldest first; empty if there are none. Times are in the time zone of this host."""
    rows = [
        (
            time.strftime("%H:%M:%S", time.localtime(one["at"])), one["what"], one["service"] or "-", one["instance"] or "-",
            str(one["seen_by"]), one["detail"] or "-",
        )
        for one in entries[-MOST_ROWS:]
    ]  # fmt: skip
    return [("AT", "HAPPENED", "SERVICE", "INSTANCE", "SEEN BY", "DETAIL"), *rows] if rows else []
