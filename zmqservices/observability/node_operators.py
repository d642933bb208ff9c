"""The methods with which every node of `zmqservices run` answers operators: `ping`, `info`, `stats` and `schema`.

The counts are those of the process's Statistics. Without METRICS_ADDRESS and STATISTICS, counting begins with the first call of
`stats`; workers, queues and backlogs are always known. docs/observability.rst has the shape of each answer.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterable
from functools import cache
from importlib import metadata
from typing import Any, TypeAlias

import gevent

from zmqservices import probes
from zmqservices.cluster.node import Node
from zmqservices.cluster.operators import NODE, OperatorMethods
from zmqservices.containers import ServiceContainer
from zmqservices.observability.described import described
from zmqservices.observability.snapshot import snapshot
from zmqservices.observability.statistics import MOST_SERIES, Statistics

#: Makes the contracts of a service class: documents by their kind ("openapi", "asyncapi"), and None for those that it has not.
Contracts: TypeAlias = Callable[[type], dict[str, dict[str, Any] | None]]


class NodeOperators(OperatorMethods):
    """Answers for `containers`, all those of the process, at `node`. `serve` begins to answer.

    `contracts` raises ImportError if a library is missing. Without `contracts`, `schema` has no documents.
    """

    METHODS = ("ping", "info", "stats", "schema")

    def __init__(self, node: Node, containers: Iterable[ServiceContainer], contracts: Contracts | None = None) -> None:
        super().__init__(NODE, gevent.spawn)
        self._node = node
        self._containers = list(containers)
        self._contracts = contracts
        self._began = time.monotonic()

    def serve(self) -> str:
        """Answer from now on, until the node is closed. Returns the address that is announced to others."""
        server = self._node.open_call_server()
        server.serve(self.name, self._node.id, self.take, self.flush, self.cancel)
        return self._node.addresses.advertised(server.endpoint)

    # --- the methods -------------------------------------------------------------------------------------------------

    def ping(self) -> dict[str, Any]:
        """The id of the node, and its instances by service."""
        return {"node": self._node.id, "instances": [_named(container) for container in self._containers]}

    def info(self) -> dict[str, Any]:
        """Describes this process: versions, the process itself, and each service with its methods and entrypoints."""
        return {
            **self._process(),
            "python": platform.python_version(),
            "platform": sys.platform,
            "certificate": self._certificate(),
            "instances": [
                {
                    **_named(container),
                    "class": f"{container.service_cls.__module__}.{container.service_cls.__qualname__}",
                    "max_workers": container.pool.size,
                    **described(container),
                }
                for container in self._containers
            ],
        }

    def schema(self) -> dict[str, Any]:
        """The contract of each service. If they cannot be made, `problem` says why, and there are none."""
        found: dict[str, Any] = {"node": self._node.id, "instances": [], "problem": ""}
        try:
            for container in self._containers:
                # In a thread, because the first one imports a large library.
                contracts, cls = self._contracts, container.service_cls
                made = {} if contracts is None else gevent.get_hub().threadpool.apply(contracts, (cls,))
                found["instances"].append({**_named(container), **made})
        except ImportError as error:
            found.update(instances=[], problem=str(error))
        return found

    def stats(self, brief: bool = False, after: int = 0) -> dict[str, Any]:
        """Counts, durations and errors of each method since `since`, and the sizes of pools, links and journals now.

        `brief` is for callers that ask often: it leaves out tracebacks, `measures`, and of the instances of callees all but their
        `condition`. `after`: of the timeline, only entries whose `number` is higher than this.
        """
        return {
            **self._process(),
            **snapshot(self._statistics(), self._containers, brief, after),
            "callees": [_briefly(callee) for callee in self._callees()] if brief else self._callees(),
        }

    def _callees(self) -> list[dict[str, Any]]:
        """The services that this process calls; if there are more than MOST_SERIES, those that are called most."""
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
        """The name of this node's certificate and the days that it is still valid; None in an open cluster."""
        keys = self._node.settings.keys
        return None if keys is None else {"name": keys.certificate.name, "days_left": keys.days_left(time.time())}

    @staticmethod
    def _statistics() -> Statistics:
        found = probes.attached_of(Statistics)
        if found is None:
            found = Statistics()
            probes.attach(found)
        return found


def _briefly(callee: dict[str, Any]) -> dict[str, Any]:
    instances = [{"instance": one["instance"], "condition": one["condition"]} for one in callee["instances"]]
    return {**callee, "instances": instances}


def _named(container: ServiceContainer) -> dict[str, Any]:
    return {"service": container.service_name, "instance": container.instance_id}


@cache
def version() -> str:
    """The version of this package, as it was installed when it was first asked for; "" where it is not installed.

    Read once: reading it takes longer than all the rest of an answer to `stats`.
    """
    try:
        return metadata.version("zmqservices")
    except metadata.PackageNotFoundError:
        return ""
