"""What every node of `zmqservices run` answers to operators: `ping`, `info` and `stats` of the services of its process.

The counts are those of the process's Statistics. Where nothing else counts (METRICS_ADDRESS, STATISTICS), they begin with the
first question; workers, queues and backlogs are told from the start. docs/observability.rst has the shape of each answer.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterable
from importlib import metadata
from typing import Any

import gevent

from zmqservices import probes
from zmqservices.cluster.node import Node
from zmqservices.cluster.operators import NODE, OperatorMethods
from zmqservices.containers import ServiceContainer
from zmqservices.observability.described import described
from zmqservices.observability.snapshot import snapshot
from zmqservices.observability.statistics import MOST_SERIES, Statistics


class NodeOperators(OperatorMethods):
    """`containers` are those of the process; `serve` begins to answer at `node`."""

    METHODS = ("ping", "info", "stats")

    def __init__(self, node: Node, containers: Iterable[ServiceContainer]) -> None:
        super().__init__(NODE, gevent.spawn)
        self._node = node
        self._containers = list(containers)
        self._began = time.monotonic()

    def serve(self) -> str:
        """Answer from now on, as long as the node lives. Returns the address that others are told."""
        server = self._node.open_call_server()
        server.serve(self.name, self._node.id, self.take, self.flush, self.cancel)
        return self._node.addresses.advertised(server.endpoint)

    # --- the methods -------------------------------------------------------------------------------------------------

    def ping(self) -> dict[str, Any]:
        """The node and its instances, by service."""
        return {"node": self._node.id, "instances": [_named(container) for container in self._containers]}

    def info(self) -> dict[str, Any]:
        """What runs here: versions, the process, and each service with its methods and entrypoints."""
        return {
            **self._process(),
            "python": platform.python_version(),
            "platform": sys.platform,
            "certificate": self._certificate(),
            "instances": [
                {
                    **_named(container),
                    "class": f"{container.service_cls.__module__}.{container.service_cls.__qualname__}",
                    "max_workers": container.max_workers,
                    **described(container),
                }
                for container in self._containers
            ],
        }

    def stats(self, brief: bool = False, after: int = 0) -> dict[str, Any]:
        """Counts, durations and errors of each method since `since`, and the sizes of pools, links and journals now.

        `brief` leaves out tracebacks and `measures`, for those who ask often. `after`: only the entries of the timeline whose
        `number` is above that.
        """
        return {
            **self._process(),
            **snapshot(self._statistics(), self._containers, brief, after),
            "callees": self._callees(),
        }

    def _callees(self) -> list[dict[str, Any]]:
        """What is called from here; of more than MOST_SERIES services, those that are called most."""
        found = [one for one in self._node.caller.call_state() if not one["service"].startswith("events:")]
        return found if len(found) <= MOST_SERIES else sorted(found, key=lambda one: -one["calls"])[:MOST_SERIES]

    def _process(self) -> dict[str, Any]:
        return {
            "node": self._node.id,
            "version": version(),
            "host": platform.node(),
            "pid": os.getpid(),
            "at": time.time(),
            "uptime": time.monotonic() - self._began,
        }

    def _certificate(self) -> dict[str, Any] | None:
        """That of this node, in a closed cluster."""
        keys = self._node.settings.keys
        return None if keys is None else {"name": keys.certificate.name, "days_left": keys.days_left(time.time())}

    @staticmethod
    def _statistics() -> Statistics:
        found = probes.attached_of(Statistics)
        if found is None:
            found = Statistics()
            probes.attach(found)
        return found


def _named(container: ServiceContainer) -> dict[str, Any]:
    return {"service": container.service_name, "instance": container.instance_id}


def version() -> str:
    """The installed version of this package; "" where it is not installed."""
    try:
        return metadata.version("zmqservices")
    except metadata.PackageNotFoundError:
        return ""
