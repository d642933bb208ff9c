"""What a caller knows of the services that it calls: the state of their instances, and its limits, as plain values.

It is the view of one caller. Another one may see the same instances otherwise, since each judges by its own calls.
"""

from __future__ import annotations

from typing import Any

from zmqservices.cluster.calls.ejection import Ejection
from zmqservices.cluster.calls.instances import Instance, ServicePool
from zmqservices.resilience.budget import RetryBudget


def describe(pool: ServicePool, budget: RetryBudget, ejection: Ejection, now: float) -> dict[str, Any]:
    """One service: `calls` so far, those that are `held`, the `retries` that its budget has now, the second attempts that were
    made (`hedged`) and those that were answered first (`hedges_won`), whether its instances are in `panic` (so many fail that
    nobody is ejected), and its `instances`."""
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
    """`condition` is `ejected`, `up`, or why it is not asked. `queued`: the calls of others that waited
    there by its last answer, 0 where that is out of date. Times in seconds; `latency` by method, where it was measured."""
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
