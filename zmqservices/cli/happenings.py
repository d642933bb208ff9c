"""What `zmqservices stats` tells besides counts: the calls that run the longest, and what happened in the cluster lately.

Pure: answers of nodes in, rows out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from zmqservices.dashboard.timeline import ClusterTimeline

#: A running call is named in the table from so many seconds on.
LONG = 1.0
#: Rows of each of the two tables.
MOST_ROWS = 10
#: What is no news for somebody who looks for a fault.
NO_NEWS = frozenset(("link up", "listed", "started"))


def happened(answers: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The timelines of these nodes as one, oldest first. What several nodes saw is one entry; `seen_by` is how many saw it."""
    answers = list(answers)
    # `inf`: nothing was seen by this process itself, so that all of it is taken from the nodes.
    timeline = ClusterTimeline(math.inf)
    names = {_node(answer): str(one["service"]) for answer in answers for one in answer.get("instances", ())}
    for answer in answers:
        timeline.take(_node(answer), answer.get("timeline", ()), 0.0, names)
    return [
        {key: value for key, value in entry.items() if key != "number"}
        for entry in timeline.to_list() if entry["what"] not in NO_NEWS
    ]  # fmt: skip


def _node(answer: Mapping[str, Any]) -> str:
    return str(answer.get("node", ""))


def longest(instances: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The calls that run now and have run the longest, over these instances, the longest first."""
    found = [{"instance": instance["instance"], **one} for instance in instances for one in instance.get("longest", ())]
    return sorted(found, key=lambda one: -float(one["seconds"]))[:MOST_ROWS]


def running_rows(told: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """A table for people of calls that have run for long; empty if there are none. `told` is the result of `summed`."""
    found = [(service["service"], one) for service in told for one in service["longest"] if one["seconds"] >= LONG]
    found.sort(key=lambda pair: -float(pair[1]["seconds"]))
    rows = [
        (service, one["instance"], one["method"], f"{one['seconds']:.1f} s", one["call_id"], one["caller"] or "-")
        for service, one in found[:MOST_ROWS]
    ]
    return [("RUNS NOW", "INSTANCE", "METHOD", "FOR", "CALL", "CALLED BY"), *rows] if rows else []


def happened_rows(entries: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """A table for people of the last entries, oldest first; empty if there are none. Times are those of this host's zone."""
    rows = [
        (
            time.strftime("%H:%M:%S", time.localtime(one["at"])), one["what"], one["service"] or "-", one["instance"] or "-",
            str(one["seen_by"]), one["detail"] or "-",
        )
        for one in entries[-MOST_ROWS:]
    ]  # fmt: skip
    return [("AT", "HAPPENED", "SERVICE", "INSTANCE", "SEEN BY", "DETAIL"), *rows] if rows else []
