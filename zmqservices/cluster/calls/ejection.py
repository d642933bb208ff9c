"""Keeps calls away from instances that fail far more than the others, as this caller sees them.

Each caller judges for itself, by what its own calls met: another caller may see the same instance otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from zmqservices.cluster.calls.instances import Instance, ServicePool
from zmqservices.probes import UNWATCHED, Watched
from zmqservices.resilience.outliers import OutlierRules, Outliers

_log = logging.getLogger(__name__)

#: Seconds between two looks at slow instances, and at those that are to return.
LOOK_INTERVAL = 1.0


class Ejection:
    """`changed(pool)` is called when other instances of a pool may be asked from now on."""

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
        """A call there was lost, not answered in time, or refused because its queue is full."""
        if self._rules.ejection:
            now = self._clock()
            instance.health.failed(instance.load, now)
            self._judge(instance.pool, now)

    def look(self, pools: Iterable[ServicePool], now: float) -> None:
        """To be called now and then while there are calls."""
        if now >= self._next_look and self._rules.ejection:
            self._next_look = now + LOOK_INTERVAL
            for pool in pools:
                if len(pool.instances) > 1:
                    self._judge(pool, now)

    def panics(self, pool: ServicePool) -> bool:
        """Whether so many instances failed that nobody is ejected."""
        outliers = self._outliers.get(pool)
        return outliers is not None and outliers.panic_until > self._clock()

    def _judge(self, pool: ServicePool, now: float) -> None:
        outliers = self._outliers.get(pool)
        if outliers is None:
            outliers = self._outliers[pool] = Outliers(self._rules)
        # Those that leave or cannot be reached get no calls anyhow.
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
