"""Sums up what nodes know of the services that they call: retry budgets, hedged calls, and ejected instances.

Each caller judges an instance by its own calls, so two callers may judge the same instance differently.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: The counts that are added up over all nodes of a caller.
_SUMS = ("calls", "held", "retries", "hedged", "hedges_won")


def callees_of(service: str, answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a node that runs `service` knows of the services that `service` calls. Empty for a node of an earlier release.

    Services in one process share the node's connections. Then the result has only the services that `service` was seen to call.
    """
    callees: list[Mapping[str, Any]] = answer.get("callees", [])
    if len({instance["service"] for instance in answer.get("instances", ())}) < 2:
        return callees
    called = {call["service"] for call in answer.get("calls", ()) if call["caller"] == service}
    return [callee for callee in callees if callee["service"] in called]


def add_callees(told: list[dict[str, Any]], callees: Iterable[Mapping[str, Any]], node: str) -> None:
    """Add what one node knows to `told`, which has a mapping for each called service."""
    by_name = {each["service"]: each for each in told}
    for callee in callees:
        total = by_name.get(callee["service"])
        if total is None:
            total = {"service": callee["service"], **dict.fromkeys(_SUMS, 0), "in_flight": 0, "panic": [], "instances": {}}
            told.append(total)
        for name in _SUMS:
            # A node of an earlier release hedges nothing.
            total[name] = round(total[name] + callee.get(name, 0), 1)
        if callee["panic"]:
            total["panic"].append(node)
        for instance in callee["instances"]:
            _add_instance(total["instances"], instance, node)
            total["in_flight"] += instance["in_flight"]


def _add_instance(instances: dict[str, Any], instance: Mapping[str, Any], node: str) -> None:
    empty = {"endpoint": instance["endpoint"], "zone": instance["zone"], "in_flight": 0, "ejected": {}, "unused": {}}
    seen = instances.setdefault(instance["instance"], empty)
    seen["in_flight"] += instance["in_flight"]
    if instance["condition"] == "ejected":
        seen["ejected"][node] = instance["why"]
    elif instance["condition"] != "up":
        seen["unused"][node] = instance["condition"]


def callee_rows(told: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The result of `nodes.summed` as a table; empty if no service calls another.

    A node has one row for all services that it runs. If it has counted calls, only the service that made them is named.
    """
    calls = {caller["service"]: {call["service"] for call in caller.get("calls", ())} for caller in told}
    counted = set().union(*calls.values())
    rows = []
    for caller in told:
        for callee in caller["callees"]:
            if callee["service"] in counted - calls[caller["service"]]:
                continue
            instances = callee["instances"].values()
            ejected = sum(bool(each["ejected"]) for each in instances)
            rows.append((
                caller["service"], callee["service"], str(callee["calls"]), str(callee["in_flight"]), str(callee["held"]),
                str(len(callee["instances"])), "panic" if callee["panic"] else str(ejected), f"{callee['retries']:.0f}",
                f"{callee['hedged']} ({callee['hedges_won']} won)" if callee["hedged"] else "0",
            ))  # fmt: skip
    head = ("CALLER", "CALLEE", "CALLS", "IN FLIGHT", "HELD", "INSTANCES", "EJECTED", "RETRY BUDGET", "HEDGED")
    return [head, *rows] if rows else []


def ejection_lines(told: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line for each ejected instance: which caller avoids it, and why."""
    return [
        f"{caller['service']} (node {node}) sends no calls to instance {instance} of {callee['service']} "
        f"at {seen['endpoint']}: {why}"
        for caller in told for callee in caller["callees"]
        for instance, seen in callee["instances"].items() for node, why in seen["ejected"].items()
    ]  # fmt: skip
