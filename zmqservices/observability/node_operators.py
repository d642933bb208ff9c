"""What every node of `zmqservices run` answers to operators: `ping`, `info` and `stats` of the services of its process.

The counts are those of the process's Statistics. Where nothing else counts (METRICS_ADDRESS, STATISTICS), they begin with the
first question; workers, queues and backlogs are told from the start.
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
from zmqservices.observability.histogram import Histogram
from zmqservices.observability.statistics import Statistics, Worked


class NodeOperators(OperatorMethods):
    """`containers` are those of the process; `serve` begins to answer at `node`."""

    METHODS = ("ping", "info", "stats")

    def __init__(self, node: Node, containers: Iterable[ServiceContainer]) -> None:
        super().__init__(NODE, gevent.spawn)
        self._node = node
        self._containers = list(containers)
        self._began = time.time()

    def serve(self) -> str:
        """Answer from now on, as long as the node lives. Returns the address that others are told."""
        server = self._node.open_call_server()
        server.serve(self.name, self._node.id, self.take, self.flush, self.cancel)
        return self._node.addresses.advertised(server.endpoint)

    # --- the methods -------------------------------------------------------------------------------------------------

    def ping(self) -> dict[str, Any]:
        """The node and its instances, by service."""
        return {"node": self._node.id, "instances": [self._named(container) for container in self._containers]}

    def info(self) -> dict[str, Any]:
        """What runs here: versions, the process, and each service with its methods and entrypoints."""
        return {
            "node": self._node.id,
            "version": _version(),
            "python": platform.python_version(),
            "platform": sys.platform,
            "host": platform.node(),
            "pid": os.getpid(),
            "uptime": time.time() - self._began,
            "instances": [
                {
                    **self._named(container),
                    "class": f"{container.service_cls.__module__}.{container.service_cls.__qualname__}",
                    "max_workers": container.max_workers,
                    "entrypoints": _entrypoints(container),
                    "dependencies": {
                        str(one.attr_name): type(one).__name__
                        for one in sorted(container.dependencies, key=lambda one: str(one.attr_name))
                    },
                }
                for container in self._containers
            ],
        }

    def stats(self) -> dict[str, Any]:
        """Counts, durations and errors of each method since `since`, and the sizes of pools, links and journals now."""
        statistics = self._statistics()
        return {
            "node": self._node.id,
            "host": platform.node(),
            "pid": os.getpid(),
            "uptime": time.time() - self._began,
            "since": statistics.since,
            "instances": [
                {
                    **self._named(container),
                    "running": container.pool.running(),
                    "queued": container.queued,
                    "max_workers": container.max_workers,
                    "methods": [
                        _told(worked) for worked in statistics.all_worked() if worked.instance == container.instance_id
                        and not (worked.kind == "event" and not worked.type)
                    ],
                }
                for container in self._containers
            ],
            "measures": [[measure.name, measure.value, dict(measure.labels)] for measure in probes.measures()],
        }  # fmt: skip

    @staticmethod
    def _named(container: ServiceContainer) -> dict[str, Any]:
        return {"service": container.service_name, "instance": container.instance_id}

    @staticmethod
    def _statistics() -> Statistics:
        found = probes.attached_of(Statistics)
        if found is None:
            found = Statistics()
            probes.attach(found)
        return found


def _version() -> str:
    try:
        return metadata.version("zmqservices")
    except metadata.PackageNotFoundError:
        return ""


def _entrypoints(container: ServiceContainer) -> list[dict[str, Any]]:
    told = []
    for entrypoint in container.entrypoints:
        listed = entrypoint.listed()
        told.append({"method": entrypoint.method_name, **({"kind": "rpc", "what": ""} if listed is None else listed)})
    return sorted(told, key=lambda one: (str(one["kind"]), str(one["method"]), str(one["what"])))


def _told(worked: Worked) -> dict[str, Any]:
    durations = Histogram()
    for _, histogram in worked.all():
        durations.add(histogram)
    last = worked.last_error
    return {
        "method": worked.method,
        "kind": worked.kind,
        "event": f"{worked.source}:{worked.type}" if worked.type else "",
        "count": durations.count,
        "errors": {name: histogram.count for name, histogram in worked.failed.items()},
        "durations": durations.to_dict(),
        "queued": worked.queued.to_dict(),
        "last_error": None if last is None else {"at": last.at, "type": last.type, "text": last.text},
    }
