"""The services that a node serves, each with one instance or several."""

from __future__ import annotations

from typing import Any

from zmqservices.cluster.calls.incoming import Served

#: Stands for a service that has several instances here. It looks like an instance that drains, so that a call of any other
#: service costs no further check.
SHARED = Served("", "", lambda call: None, lambda: None, lambda worker, why: None, ())
SHARED.is_draining = True


class ServiceTable:
    """Adds and removes instances, and says which there are."""

    def __init__(self) -> None:
        #: The instance of each service, by the service's name; SHARED where `several` has its instances.
        self.by_name: dict[str, Served] = {}
        self.several: dict[str, list[Served]] = {}

    def instances(self, name: str) -> list[Served]:
        """The instances of a service; none where it is not served here."""
        several = self.several.get(name)
        if several is not None:
            return several
        served = self.by_name.get(name)
        return [] if served is None else [served]

    def add(self, served: Served) -> None:
        self._put(served.name, [*self.instances(served.name), served])

    def remove(self, served: Served) -> None:
        self._put(served.name, [other for other in self.instances(served.name) if other is not served])

    def _put(self, name: str, instances: list[Served]) -> None:
        self.by_name.pop(name, None)
        self.several.pop(name, None)
        if len(instances) == 1:
            self.by_name[name] = instances[0]
        elif instances:
            self.by_name[name] = SHARED
            self.several[name] = instances

    def described(self) -> dict[str, Any]:
        """The `info` of a WELCOME."""
        return {"services": {name: described(self.instances(name)) for name in self.by_name}}


def least_busy(instances: list[Served]) -> Served:
    """The instance that takes the next call: of those that do not drain, the one with the fewest open calls.

    Of equally busy instances, the least recently used one. If all of them drain, one that drains. Reorders `instances`.
    """
    chosen = min(instances, key=lambda served: (served.is_draining, served.open_calls))
    instances.remove(chosen)
    instances.append(chosen)
    return chosen


def described(instances: list[Served]) -> dict[str, Any]:
    """One service in a WELCOME: the instances that take calls, and the methods that all of them declare idempotent."""
    active = [served for served in instances if not served.is_draining]
    repeatable = set.intersection(*(set(served.idempotent) for served in active or instances))
    return {
        "idempotent": sorted(repeatable),
        "draining": not active,
        "instances": sorted(served.instance for served in active),
    }
