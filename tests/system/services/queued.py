"""Two services alike, whose instances run one call at a time and answer how many others waited meanwhile."""

from __future__ import annotations

from typing import Any

import gevent

from zmqservices.extensions import DependencyProvider
from zmqservices.rpc import rpc


class Waiting(DependencyProvider):
    """Injects how many calls wait for a worker."""

    def get_dependency(self, worker_ctx: Any) -> int:
        return len(self.container.pool.jobs)


class Told:
    name = "told"
    waiting = Waiting()

    @rpc
    def work(self, seconds: float) -> int:
        gevent.sleep(seconds)
        return self.waiting


class Blind(Told):
    name = "blind"
