"""Describes the services that a caller calls, in plain values and in measures: the state of their instances and the limits.

It is the view of one caller. Another caller may see the same instances differently, because each judges by its own calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sized
from typing import Any

from zmqservices.cluster.calls.ejection import Ejection
from zmqservices.cluster.calls.instances import Instance, ServicePool
from zmqservices.cluster.calls.peer import Peer
from zmqservices.probes import Measure
from zmqservices.resilience.budget import RetryBudget


def describe(pool: ServicePool, budget: RetryBudget, ejection: Ejection, now: float) -> dict[str, Any]:
    """Describe one service.

    `calls`: all so far. `held`: calls that wait for an instance. `retries`: the present retry budget. `hedged`: second attempts;
    `hedges_won`: those that were answered first. `panic`: so many instances fail that none is ejected. `instances`: each one.
    """
    return {
        "service": pool.service,
        "calls": pool.calls,
        "held": len(pool.waiting),
        "retries": round(budget.earn(pool.calls, now), 1),
        "hedged": pool.hedged,
        "hedges_won": pool.hedges_won,
        "panic": ejection.panics(pool),
        "instances": [_instance(instance, now) for instance in pool.instances.values()],
    }


def _instance(instance: Instance, now: float) -> dict[str, Any]:
    """Describe one instance.

    `condition`: `up`, `ejected`, or why it gets no calls. `queued`: calls of other callers that waited there at its last answer;
    0 if that is out of date. `latency`: seconds by method, for measured methods. All times are in seconds.
    """
    health = instance.health
    is_ejected = health.ejected_until > now
    return {
        "instance": instance.record.instance,
        "endpoint": instance.peer.endpoint,
        "zone": instance.record.zone,
        "share": round(instance.load.share, 3),
        "condition": "ejected" if is_ejected else instance.peer.condition(instance),
        "ejected_for": round(health.ejected_until - now, 3) if is_ejected else 0.0,
        "why": health.why if is_ejected else "",
        "in_flight": instance.load.in_flight,
        "queued": instance.load.queue.others if instance.load.queue.is_recent(now) else 0,
        "latency": {method: pace.latency for method, pace in instance.load.paces.items()},
    }


def measure(
    in_flight: Sized,
    pools: Mapping[str, ServicePool],
    peers: Mapping[Any, Peer],
    budget: Callable[[ServicePool], RetryBudget],
    ejection: Ejection,
    now: float,
) -> Iterator[Measure]:
    """Measures of one caller: calls in flight and held, links by state, and of each service its instances and limits."""
    yield Measure("calls_in_flight", len(in_flight), {})
    yield Measure("calls_held", sum(len(pool.waiting) for pool in pools.values()), {})
    states = Counter("suspect" if peer.is_suspect else peer.stage.name.lower() for peer in peers.values())
    for state in ("connecting", "greeting", "up", "suspect", "refused"):
        yield Measure("links", states[state], {"state": state})
    for pool in [pool for pool in pools.values() if not (pool.is_absent or pool.service.startswith("events:"))]:
        service = {"service": pool.service}
        for state, instances in pool.states().items():
            yield Measure("client_instances", instances, {**service, "state": state})
        yield Measure("client_retry_budget", budget(pool).earn(pool.calls, now), service)
        yield Measure("client_panic", ejection.panics(pool), service)
