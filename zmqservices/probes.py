"""Who looks on while calls are run: hooks that do nothing by themselves, and cannot hurt.

    class Slow(Probe):
        def worker_started(self, worker_ctx):
            began[worker_ctx] = time.monotonic()

        def worker_ended(self, worker_ctx, result, exc_info):
            print(worker_ctx.call_id, time.monotonic() - began.pop(worker_ctx))

    with watching(container, Slow()):
        ...

Rule 1: what a probe raises is logged, and the call never feels it. Only what is thrown into the worker from outside (its
end, its cancelling) goes on, whoever was running by then.
Rule 2: a container that nobody watches pays a look at one attribute at each point.
Rule 3: a probe is called in the worker's greenlet; the caller waits for `worker_started`, so it must not block.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from gevent import GreenletExit

from zmqservices.exceptions import WorkerCancelled
from zmqservices.worker_context import ExcInfo, WorkerContext

__all__ = ["ExcInfo", "Probe", "watching"]

_log = logging.getLogger(__name__)


class Probe:
    """The base of all probes; override what you want to hear of.

    For one call: `worker_started`, `worker_result`, `worker_ended`, or else `worker_dropped` alone. Workers that are
    killed with their container are not told of any more.
    """

    def worker_started(self, worker_ctx: WorkerContext) -> None:
        """Called when a call's turn has come, before its service is made and its dependencies are injected."""

    def worker_result(self, worker_ctx: WorkerContext, result: Any, exc_info: ExcInfo | None) -> None:
        """Called once the outcome is on its way to the caller, before providers hear of it. As they will see it."""

    def worker_ended(self, worker_ctx: WorkerContext, result: Any, exc_info: ExcInfo | None) -> None:
        """Called when every provider is torn down, with the same outcome."""

    def worker_dropped(self, worker_ctx: WorkerContext, exc: BaseException) -> None:
        """Called for a call that never began: too late, cancelled, or in the queue of a container that was killed."""


class Watched(Protocol):
    """A container, as those see it who watch its calls."""

    def attach(self, probe: Probe) -> None: ...

    def detach(self, probe: Probe) -> None: ...


def tell(probes: tuple[Probe, ...], point: str, *args: object) -> None:
    """Call the hook `point` of every probe, in the order in which they came."""
    for probe in probes:
        try:
            getattr(probe, point)(*args)
        except (GreenletExit, WorkerCancelled):
            raise
        except BaseException:
            _log.exception("ignored an error of %s in %s", probe, point)


@contextmanager
def watching(container: Watched, probe: Probe) -> Iterator[None]:
    """Attach `probe` to a container for the length of a block."""
    container.attach(probe)
    try:
        yield
    finally:
        container.detach(probe)
