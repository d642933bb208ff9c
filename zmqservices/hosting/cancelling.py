"""Ends calls from outside: cancels them, expires them at their deadline, drains them at a stop, or kills them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from time import monotonic

import gevent
from greenlet import greenlet

from zmqservices.exceptions import ContainerBeingKilled, WorkerCancelled
from zmqservices.hosting.lifecycle import TOO_LATE, WorkerLifecycle
from zmqservices.hosting.workers import WorkerPool
from zmqservices.worker_context import RUNNING, WAITING, ExcInfo, WorkerContext

_log = logging.getLogger(__name__)


class CancellableCalls(WorkerLifecycle):
    """The part of a container that ends calls early."""

    service_name: str
    pool: WorkerPool
    _worker_threads: Mapping[WorkerContext, greenlet]
    _drain_timeout: float | None

    def kill(self, exc_info: ExcInfo | None = None) -> None:
        """Stop the container at once. Defined by the container."""
        raise NotImplementedError

    def cancel(self, worker_ctx: WorkerContext, exc: BaseException) -> bool:
        """End a call with the outcome `exc`, a WorkerCancelled. Returns False if the call is over, or is being answered.

        A call that has not begun never begins: its `handle_result` is called at once, and its providers are not called. In a
        running call, `exc` is raised once, where its method waits; then its providers are told the outcome and torn down.
        """
        if worker_ctx._phase not in (WAITING, RUNNING):
            return False
        if worker_ctx._is_cancelled:
            return True
        worker_ctx._is_cancelled = True
        if worker_ctx._phase == WAITING:
            self.pool.drop(worker_ctx)
            self._answer_unstarted(worker_ctx, exc)
        elif gevent.getcurrent() is gevent.get_hub():
            self._interrupt(worker_ctx, exc)
        else:
            gevent.get_hub().loop.run_callback(self._interrupt, worker_ctx, exc)
        return True

    def _interrupt(self, worker_ctx: WorkerContext, exc: BaseException) -> None:
        """Called in the hub's greenlet: raise the error in the worker, if it still runs this call's method."""
        worker = self._worker_threads.get(worker_ctx)
        if worker is not None and worker_ctx._phase == RUNNING:
            worker.throw(exc)

    def _expire(self, worker_ctx: WorkerContext) -> None:
        text = TOO_LATE
        if worker_ctx._phase != WAITING:
            text = f"deadline exceeded in {self.service_name}.{worker_ctx.entrypoint.method_name}"
        self.cancel(worker_ctx, WorkerCancelled(text))

    def _answer_failed(self, worker_ctx: WorkerContext, exc_info: ExcInfo) -> None:
        _log.critical("the outcome of %s could not be handled", worker_ctx.call_id, exc_info=exc_info)
        # In another greenlet, because a worker cannot wait for its own end.
        gevent.spawn(self.kill, exc_info)

    def _drain_workers(self, began: float) -> None:
        pool = self.pool
        limit = self._drain_timeout
        if not pool.waitall(None if limit is None else max(0.0, began + limit - monotonic())):
            _log.warning("cancelling what %s did not end within %s s of stopping", self, limit)
            for worker_ctx in [*pool.threads, *pool.jobs]:
                self.cancel(worker_ctx, WorkerCancelled(f"the service {self.service_name} is stopping"))
            pool.waitall()

    def _kill_workers(self) -> None:
        for worker_ctx in self.pool.drop_all():
            self._answer_unstarted(worker_ctx, ContainerBeingKilled(f"{self.service_name} was killed"))
        self.pool.kill()
