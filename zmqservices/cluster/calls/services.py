"""The services of a node, each with one or several instances."""

from __future__ import annotations

from typing import Any

from zmqservices.cluster.calls.incoming import Served

#: Stands for a service that has several instances here. It looks like an instance that drains, so that calls of all other
#: services need no further check.
SHARED = Served("", "", lambda call: None, lambda: None, lambda worker, why: None, ())
SHARED.is_draining = True


class ServiceTable:
    """The instances of each service of one node."""

    def __init__(self) -> None:
        #: The instance of each service by the service's name; SHARED if `several` has its instances.
        self.by_name: dict[str, Served] = {}
        self.several: dict[str, list[Served]] = {}

    def instances(self, name: str) -> list[Served]:
        """The instances of a service; empty if it is not served here."""
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
        """The services in the `info` of a WELCOME."""
        return {"services": {name: described(self.instances(name)) for name in self.by_name}}


def least_busy(instances: list[Served]) -> Served:
    """The instance for the next call: among those that do not drain, the one with the fewest open calls.

    Among equally busy instances, the least recently used one; if all drain, one that drains. Reorders `instances`.
    """
    chosen = min(instances, key=lambda served: (served.is_draining, served.open_calls))
    instances.remove(chosen)
    instances.append(chosen)
    return chosen


def described(instances: list[Served]) -> dict[str, Any]:
    """One service in a WELCOME: its instances that accept calls, and the methods that all of them declare idempotent."""
    active = [served for served in instances if not served.is_draining]
    repeatable = set.intersection(*(set(served.idempotent) for served in active or instances))
    return {
        "idempotent": sorted(repeatable),
        "draining": not active,
        "instances": sorted(served.instance for served in active),
    }
