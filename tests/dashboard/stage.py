"""Answers of nodes as `stats` gives them, made by hand."""

from zmqservices.dashboard.cluster_state import ClusterState, ListedInstance
from zmqservices.observability.histogram import Histogram
from zmqservices.observability.node_address import NodeAddress


def row(durations=(), errors=None, **names):
    """A row of an answer with these durations in seconds."""
    histogram = Histogram()
    for seconds in durations:
        histogram.observe(seconds)
    return {**names, "count": len(durations), "errors": errors or {}, "durations": histogram.to_dict()}


def method(durations=(), errors=None, method="place", kind="rpc", event="", group=""):
    return row(durations, errors, method=method, kind=kind, event=event, group=group)


def group(source="orders", name="mails.send:placed", **counts):
    usual = dict.fromkeys(("waiting", "in_flight", "dead_letters", "acked", "failed", "dead", "lost"), 0)
    return {"source": source, "group": name, "journal": "j1", "oldest_age": None, "members": 1, **usual, **counts}


def answer(at, instances=(), node="n1", since=1.0, pid=7, **parts):
    """`instances`: (service, instance, [method, ...])."""
    told = [
        {"service": service, "instance": instance, "running": 1, "queued": 2, "max_workers": 10, "methods": methods}
        for service, instance, methods in instances
    ]
    usual = {name: [] for name in ("requests", "calls", "dispatched", "groups", "timeline", "callees", "errors")}
    return {"node": node, "pid": pid, "since": since, "at": at, "instances": told, **usual, **parts}


def happening(number, what, at, service="orders", instance="o1", detail=""):
    return {"number": number, "at": at, "what": what, "service": service, "instance": instance, "detail": detail}


def listed(service, instance, node="n1", state="UP", is_suspect=False, port=1):
    return ListedInstance(service, instance, node, state, is_suspect, "host", 7, NodeAddress(f"tcp://127.0.0.1:{port}", None))


def at(port):
    return NodeAddress(f"tcp://127.0.0.1:{port}", None)


def cluster(*instances, now=100.0):
    """A state that lists these."""
    state = ClusterState(now)
    state.listed(instances, now)
    return state
