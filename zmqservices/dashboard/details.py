"""The details of one service or one instance: methods with histograms, errors with tracebacks, entrypoints.

Rule 1: pure. Answers that were asked for these details are an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from zmqservices.dashboard.cluster_state import ClusterState
from zmqservices.dashboard.counts import Counted, Flow, Key
from zmqservices.dashboard.picture import is_answering
from zmqservices.observability.histogram import BOUNDS

#: The fields of an answer that describe the process.
OF_PROCESS = ("node", "version", "host", "pid", "uptime", "since", "in_flight")


def details(
    state: ClusterState, service: str, instance: str | None, answers: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """The details of a service, or of one instance. `answers`: full answers to `stats` of the nodes that run it."""
    answers = list(answers)

    def is_wanted(key: Key) -> bool:
        return key[0] == "method" and key[1] == service and instance in (None, key[2])

    return {
        "service": service,
        "instance": instance,
        "bounds": BOUNDS,
        "methods": _methods(state, is_wanted),
        "calls": _calls(state, service) if instance is None else [],
        "requests": _requests(state, service) if instance is None else [],
        "running": _running(answers, service, instance),
        "errors": _errors(answers, service, instance),
        "processes": [{name: answer.get(name) for name in OF_PROCESS} for answer in answers],
        "callees": [one for answer in answers for one in answer.get("callees", ())] if instance is not None else [],
        "described": _described(state, service),
    }


def _methods(state: ClusterState, is_wanted: Callable[[Key], bool]) -> list[dict[str, Any]]:
    flows: dict[Key, Flow] = {}
    totals: dict[Key, Counted] = {}
    for node in state.nodes.values():
        if not is_answering(node):
            continue
        for key, one in node.window.total().items():
            if is_wanted(key):
                totals.setdefault(_of_all(key), Counted()).add(one)
        seconds = node.window.seconds
        for key, one in node.window.recent().items():
            if is_wanted(key):
                flows.setdefault(_of_all(key), Flow()).add(one, seconds)
    return [_method(key, totals[key], flows.get(key) or Flow()) for key in sorted(totals)]


def _of_all(key: Key) -> Key:
    """The key without the instance, for counts over all instances."""
    return key[3:]


def _method(key: Key, total: Counted, flow: Flow) -> dict[str, Any]:
    kind, method, event, group = key
    return {
        "kind": kind, "method": method, "event": event, "group": group,
        "count": total.count, "failed": total.errors, "p50": total.quantile(0.5), "p99": total.quantile(0.99),
        "histogram": sorted(total.buckets.items()),
        "recent": flow.to_dict(), "recent_histogram": sorted(flow.counted.buckets.items()),
    }  # fmt: skip


def _calls(state: ClusterState, service: str) -> list[dict[str, Any]]:
    """The calls that the service makes, and those that others make to it."""
    return _summed(state, lambda key: key[1:] if key[0] == "call" and service in key[1:3] else None, "caller service method")


def _requests(state: ClusterState, service: str) -> list[dict[str, Any]]:
    return _summed(state, lambda key: key[2:] if key[0] == "http" and key[1] == service else None, "method route status")


def _summed(state: ClusterState, name_of: Callable[[Key], Key | None], names: str) -> list[dict[str, Any]]:
    totals: dict[Key, Counted] = {}
    flows: dict[Key, Flow] = {}
    for node in state.nodes.values():
        if not is_answering(node):
            continue
        for key, one in node.window.total().items():
            name = name_of(key)
            if name is not None:
                totals.setdefault(name, Counted()).add(one)
        seconds = node.window.seconds
        for key, one in node.window.recent().items():
            name = name_of(key)
            if name is not None:
                flows.setdefault(name, Flow()).add(one, seconds)
    return [
        {
            **dict(zip(names.split(), key, strict=True)), "count": total.count, "failed": total.errors,
            "total_p99": total.quantile(0.99), **(flows.get(key) or Flow()).to_dict(),
        }
        for key, total in sorted(totals.items())
    ]  # fmt: skip


def _running(answers: Iterable[Mapping[str, Any]], service: str, instance: str | None) -> list[dict[str, Any]]:
    """The calls that have been running the longest, the longest first."""
    found = [
        {"instance": one["instance"], **call}
        for answer in answers
        for one in answer["instances"]
        if one["service"] == service and instance in (None, one["instance"])
        for call in one.get("longest", ())
    ]
    return sorted(found, key=lambda call: -float(call["seconds"]))


def _errors(answers: Iterable[Mapping[str, Any]], service: str, instance: str | None) -> list[dict[str, Any]]:
    """The last errors, newest first."""
    found = [
        one
        for answer in answers
        for one in answer.get("errors", ())
        if one["service"] == service and instance in (None, one["instance"])
    ]
    return sorted(found, key=lambda one: -float(one["at"]))


def _described(state: ClusterState, service: str) -> dict[str, Any] | None:
    """The class, entrypoints and dependencies of the service, as one of its nodes described them."""
    for node in state.nodes.values():
        for one in (node.info or {}).get("instances", ()):
            if one["service"] == service:
                return {name: one.get(name) for name in ("class", "doc", "entrypoints", "dependencies")}
    return None
