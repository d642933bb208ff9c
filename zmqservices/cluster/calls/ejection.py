"""Outlier ejection: keeps calls away from instances that fail far more than the others.

Each caller judges by its own calls, so another caller may see the same instance differently.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from zmqservices.cluster.calls.instances import Instance, ServicePool
from zmqservices.probes import UNWATCHED, Watched
from zmqservices.resilience.outliers import OutlierRules, Outliers

_log = logging.getLogger(__name__)

#: Seconds between two checks for slow instances, and for instances whose ejection is over.
LOOK_INTERVAL = 1.0


class Ejection:
    """The outlier ejection of one caller.

    `changed(pool)` is called when the instances of a pool that may be asked have changed.
    """

    def __init__(
        self,
        rules: OutlierRules,
        changed: Callable[[ServicePool], None],
        clock: Callable[[], float],
        watched: Watched = UNWATCHED,
    ) -> None:
        self._watched = watched
        self._rules = rules
        self._changed = changed
        self._clock = clock
        self._outliers: dict[ServicePool, Outliers] = {}
        self._next_look = 0.0

    def failed(self, instance: Instance) -> None:
        """A call to this instance was lost, not answered in time, or refused because its queue is full."""
        if self._rules.ejection:
            now = self._clock()
            instance.health.failed(instance.load, now)
            self._judge(instance.pool, now)

    def look(self, pools: Iterable[ServicePool], now: float) -> None:
        """Judge the instances of all pools. To be called from time to time while there are calls."""
        if now >= self._next_look and self._rules.ejection:
            self._next_look = now + LOOK_INTERVAL
            for pool in pools:
                if len(pool.instances) > 1:
                    self._judge(pool, now)

    def panics(self, pool: ServicePool) -> bool:
        """Whether so many instances failed that none is ejected."""
        outliers = self._outliers.get(pool)
        return outliers is not None and outliers.panic_until > self._clock()

    def _judge(self, pool: ServicePool, now: float) -> None:
        outliers = self._outliers.get(pool)
        if outliers is None:
            outliers = self._outliers[pool] = Outliers(self._rules)
        # Instances that stop or cannot be reached get no calls anyway.
        members = [instance for instance in pool.instances.values() if instance.may_be_asked]
        verdict = outliers.judge(members, now)
        service, probes = pool.service, self._watched.probes
        for instance in verdict.ejected:
            health = instance.health
            if probes is not None and probes.instance_ejected is not None:
                seconds = health.ejected_until - now
                probes.instance_ejected(service, instance.record.instance, instance.peer.endpoint, seconds, health.why)
            _log.warning(
                "ejected instance %s of %s at %s for %g s: %s",
                instance.record.instance, service, instance.peer.endpoint, health.ejected_until - now, health.why,
            )  # fmt: skip
        for instance in verdict.restored:
            if probes is not None and probes.instance_restored is not None:
                probes.instance_restored(service, instance.record.instance, instance.peer.endpoint)
            _log.info("instance %s of %s at %s gets calls again", instance.record.instance, service, instance.peer.endpoint)
        if verdict.panics:
            _log.warning(
                "more than half of the %d instances of %s fail: calls go to all of them for %g s",
                len(members), service, self._rules.ejection,
            )  # fmt: skip
        if verdict.changes:
            self._changed(pool)
