"""The container: one service class, its bound extensions, and the workers that run its methods."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import monotonic
from typing import Any

import gevent
from gevent.event import AsyncResult

from zmqservices import worker_context
from zmqservices.configuration import config as global_config
from zmqservices.configuration import seconds
from zmqservices.constants import DEFAULT_DRAIN_TIMEOUT, DRAIN_TIMEOUT_CONFIG_KEY, SERVICE_CONTAINER_CONFIG_KEY
from zmqservices.exceptions import ContainerBeingKilled
from zmqservices.extensions import ENTRYPOINT_EXTENSIONS_ATTR, Extension, is_dependency, iter_extensions
from zmqservices.hosting.cancelling import CancellableCalls
from zmqservices.hosting.deadlines import DeadlineScan
from zmqservices.hosting.declaration import check_class_methods, get_service_name, max_workers, serializers
from zmqservices.hosting.lifecycle import Providers
from zmqservices.hosting.limited_workers import LimitedWorkerPool
from zmqservices.hosting.managed_threads import ManagedThreads
from zmqservices.hosting.workers import PARKED_WORKERS_KEPT, WorkerPool
from zmqservices.log_helpers import make_timing_logger
from zmqservices.probes import Measure
from zmqservices.utils import import_from_path
from zmqservices.utils.concurrency import SpawningSet
from zmqservices.worker_context import (
    WAITING,
    Container,
    EntrypointOfCall,
    ExcInfo,
    HandleResult,
    WorkerContext,
    new_call_id,
)

__all__ = ["ServiceContainer", "WorkerContext", "get_container_cls", "get_service_name", "new_call_id"]

_log = logging.getLogger(__name__)
_log_time = make_timing_logger(_log)

# Looked up at each call, so that a test that replaces `new_call_id` in this module replaces it for every context.
WorkerContext.make_call_id = staticmethod(lambda: new_call_id())


def get_container_cls(config: Mapping[str, Any] | None = None) -> Any:
    """The container class to which the configuration has a dotted path, or else `ServiceContainer`."""
    settings = global_config if config is None else config
    return import_from_path(settings.get(SERVICE_CONTAINER_CONFIG_KEY)) or ServiceContainer


class ServiceContainer(CancellableCalls):
    """Hosts one service: binds its extensions, starts and stops them, and runs its workers.

    `config`: the settings; None for those of the process. A container must only be used on the thread of one hub.
    """

    def __init__(self, service_cls: type, config: Mapping[str, Any] | None = None) -> None:
        self.service_cls = service_cls
        self.config: Mapping[str, Any] = global_config if config is None else config
        self.service_name = get_service_name(service_cls)
        self.max_workers, self._has_adaptive_limit = max_workers(self.config)
        self.serializer, self.accept = serializers(self.config)
        self.shared_extensions: dict[Any, Any] = {}
        self.dependencies = SpawningSet()
        self.entrypoints = SpawningSet()
        self.subextensions = SpawningSet()
        self._bind_extensions()
        self.started = False
        #: The pool of workers, of which at most `max_workers` run at a time, and fewer at times where that is `auto`.
        self.pool: WorkerPool[WorkerContext] = self._make_pool()
        self._worker_pool = self.pool
        self._worker_threads = self.pool.threads
        #: The id of this instance in the directory, in metrics and in logs.
        self.instance_id = os.urandom(6).hex()
        self.watch()
        self._managed_threads = ManagedThreads(self.kill)
        self._deadlines = DeadlineScan(self.pool, self._expire)
        self._drain_timeout = seconds(
            self.config, DRAIN_TIMEOUT_CONFIG_KEY, DEFAULT_DRAIN_TIMEOUT, allow_none=True
        )
        self._being_stopped = False
        self._being_killed = False
        self._died = AsyncResult()

    def _make_pool(self) -> WorkerPool[WorkerContext]:
        #: The pool as those see it who refuse calls by its limit; None where there is no such limit.
        self.admission: LimitedWorkerPool | None = None
        if not self._has_adaptive_limit:
            return WorkerPool(self._run_worker, self.max_workers)
        self.admission = LimitedWorkerPool(self._run_worker, self.max_workers)
        return self.admission

    def _bind_extensions(self) -> None:
        check_class_methods(self.service_cls)
        for attr_name, dependency in inspect.getmembers(self.service_cls, is_dependency):
            bound = dependency.bind(self.interface, attr_name)
            self.dependencies.add(bound)
            self.subextensions.update(iter_extensions(bound))
        for method_name, method in inspect.getmembers(self.service_cls, inspect.isfunction):
            for entrypoint in getattr(method, ENTRYPOINT_EXTENSIONS_ATTR, ()):
                bound = entrypoint.bind(self.interface, method_name)
                self.entrypoints.add(bound)
                self.subextensions.update(iter_extensions(bound))

    @property
    def interface(self) -> Container:
        """The object to which extensions are bound."""
        return self

    @property
    def extensions(self) -> SpawningSet:
        """All bound extensions: entrypoints, dependencies, and their sub-extensions."""
        return SpawningSet(self.entrypoints | self.dependencies | self.subextensions)

    # --- the container's own life ---------------------------------------------------------------------------

    def start(self) -> None:
        """Set up all extensions concurrently, and then start all of them concurrently.

        Raises the first error of an extension once the others are through. Nothing is stopped then; call `kill` or `stop`.
        """
        _log.debug("starting %s", self)
        self.started = True
        self._settled_providers = Providers.of(self.dependencies)
        self.pool.kept = PARKED_WORKERS_KEPT
        with _log_time("started %s", self):
            self.extensions.all.setup()
            self._check_wanted()
            self.extensions.all.start()
        probes = self.probes
        if probes is not None and probes.service_started is not None:
            probes.service_started(self.service_name, self.instance_id)

    def _check_wanted(self) -> None:
        if self._being_killed or self._being_stopped or self._died.ready():
            # The container was ended meanwhile. Extensions that were set up after that have not been stopped.
            _kill_safely(self.extensions)
            raise ContainerBeingKilled(f"{self.service_name} was stopped while it was starting")

    def stop(self) -> None:
        """Stop gracefully, and return once everything has ended.

        The order is: entrypoints stop; all workers end, including submitted ones that have not begun; dependencies stop; all
        other extensions stop; remaining managed threads are killed. Workers that still run `drain_timeout` seconds after the
        beginning are cancelled. After all this `wait` returns. If extensions fail to stop, the others still stop, and the first
        error is raised at the end.
        """
        if self._died.ready():
            _log.debug("already stopped %s", self)
        elif self._being_killed or self._being_stopped:
            self._died.wait()
        else:
            self._being_stopped = True
            try:
                with _log_time("stopped %s", self):
                    self._stop()
            finally:
                self._being_stopped = False

    def _stop(self) -> None:
        _log.debug("stopping %s", self)
        began = monotonic()
        failed = _stop_all(self.entrypoints)
        self._drain_workers(began)
        failed += _stop_all(self.dependencies)
        failed += _stop_all(self.subextensions)
        self._managed_threads.kill_all()
        self._ended(None)
        if failed:
            raise failed[0]

    def kill(self, exc_info: ExcInfo | None = None) -> None:
        """Stop at once. `wait` then raises the error of `exc_info`, if given. Only the first call has an effect.

        Entrypoints are killed, calls that have not begun are answered with ContainerBeingKilled, and running workers get
        GreenletExit without any hook being called for their end. Then all extensions are killed, and then managed threads.
        """
        if self._being_killed:
            self._died.wait()
            return
        self._being_killed = True
        if self._died.ready():
            _log.debug("already stopped %s", self)
            return
        if exc_info is None:
            _log.info("killing %s", self)
        else:
            _log.warning("killing %s due to %r", self, exc_info[1])
        _kill_safely(self.entrypoints)
        self._kill_workers()
        _kill_safely(self.extensions)
        self._managed_threads.kill_all()
        self._ended(exc_info)

    def _ended(self, exc_info: ExcInfo | None) -> None:
        self._deadlines.stop()
        self.pool.release()
        self.started = False
        self.unwatch()
        if self._died.ready():
            return
        probes = self.probes
        if probes is not None and probes.service_stopped is not None:
            probes.service_stopped(self.service_name, self.instance_id)
        if exc_info is None:
            self._died.set(None)
        else:
            self._died.set_exception(exc_info[1], exc_info)

    def wait(self) -> None:
        """Block until the container has stopped or was killed. Raises the error for which it was killed."""
        # The watcher keeps the loop alive: without it, the wait would end in LoopExit if nothing else runs in this process.
        held = gevent.get_hub().loop.async_()
        held.start(lambda: None)
        try:
            self._died.get()
        finally:
            held.close()

    def measure(self) -> Iterator[Measure]:
        """Measures: the sizes of the worker pool and of its queue."""
        labels = {"service": self.service_name, "instance": self.instance_id}
        yield Measure("workers_running", self.pool.running(), labels)
        yield Measure("workers_max", self.pool.size, labels)
        yield Measure("calls_queued", self.pool.queued, labels)
        yield Measure("workers_oldest_age", next((seconds for _, seconds in self.longest_running()), 0.0), labels)

    # --- workers --------------------------------------------------------------------------------------------

    def submit(
        self,
        entrypoint: EntrypointOfCall,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        context_data: dict[str, Any] | None = None,
        handle_result: HandleResult | None = None,
        deadline: float | None = None,
        is_flushed: bool = False,
    ) -> WorkerContext:
        """Queue a call, without blocking. It begins with the next `flush`, which happens at the next turn of the event loop.

        With `is_flushed`, there is no such flush: the caller of `submit` must call `flush` itself. The queue has no bound, so
        check `queued` first. `deadline` is in seconds of `time.monotonic`.

        `handle_result(worker_ctx, result, exc_info)` is called with the outcome, and returns the outcome for the providers,
        `(result, exc_info)`. For a call that never begins, it may be called in the hub's greenlet and must not block. If it
        raises, the container is killed.

        Raises ContainerBeingKilled once `kill` has begun.
        """
        if self._being_killed:
            raise ContainerBeingKilled(f"{self.service_name} is being killed")
        worker_ctx = WorkerContext(self, None, entrypoint, args, kwargs, context_data)
        if handle_result is not None:
            worker_ctx._handle_result = handle_result
        if deadline is not None:
            worker_ctx.deadline = deadline
            worker_ctx._queued_at = monotonic()
            if not self._deadlines.is_watching:
                self._deadlines.watch()
        elif self.probes is not None:
            worker_ctx._queued_at = monotonic()
        if new_call_id is not worker_context.new_call_id:
            # A test counts the ids, so make them in the order of the calls.
            _ = worker_ctx.call_id
        worker_ctx._phase = WAITING
        self.pool.put(worker_ctx, is_flushed)
        return worker_ctx

    def spawn_worker(
        self,
        entrypoint: EntrypointOfCall,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        context_data: dict[str, Any] | None = None,
        handle_result: HandleResult | None = None,
    ) -> WorkerContext:
        """Run a call. Blocks until it can begin: while `max_workers` others run.

        The service class is instantiated first, and an error of its `__init__` is raised here. Otherwise as `submit`.
        """
        if self._being_killed:
            raise ContainerBeingKilled(f"{self.service_name} is being killed")
        worker_ctx = WorkerContext(self, self.service_cls(), entrypoint, args, kwargs, context_data)
        worker_ctx._handle_result = handle_result
        if self.probes is not None:
            worker_ctx._queued_at = monotonic()
        if new_call_id is not worker_context.new_call_id:
            _ = worker_ctx.call_id
        self.pool.claim_slot()
        if self._being_killed:
            self.pool.give_slot_back()
            raise ContainerBeingKilled(f"{self.service_name} is being killed")
        worker_ctx._phase = WAITING
        self.pool.put_claimed(worker_ctx)
        return worker_ctx

    def flush(self) -> None:
        """Let submitted calls begin: at once if called in the hub's greenlet, otherwise at the next turn of the event loop."""
        self.pool.flush()

    @property
    def queued(self) -> int:
        """The number of submitted calls that have not begun."""
        return self.pool.queued

    def longest_running(self) -> list[tuple[WorkerContext, float]]:
        """The calls that run, each with the seconds for which it has run, the longest first.

        Calls that began before a probe was attached are left out: their beginning is not known.
        """
        now = monotonic()
        found = [(worker_ctx, now - worker_ctx.started_at) for worker_ctx in self.pool.threads if worker_ctx.started_at]
        return sorted(found, key=lambda one: -one[1])

    # --- threads of extensions ------------------------------------------------------------------------------

    def spawn_managed_thread(self, fn: Callable[[], Any], identifier: str | None = None) -> Any:
        """Run `fn` in a greenlet that ends with the container. If it raises, the container is killed.

        If it still runs when all extensions have stopped, it is killed with GreenletExit. It is better to end it in your
        extension's `stop`.
        """
        return self._managed_threads.spawn(fn, identifier)

    def __repr__(self) -> str:
        return f"<ServiceContainer [{self.service_name}] at 0x{id(self):x}>"


def _stop_all(extensions: SpawningSet) -> list[Exception]:
    """Stop these extensions concurrently, and return the errors."""
    try:
        extensions.all.stop()
    except Exception as exc:
        _log.error("an extension failed to stop: %s", exc, exc_info=exc)
        return [exc]
    return []


def _kill_safely(extensions: SpawningSet) -> None:
    def kill(extension: Extension) -> None:
        try:
            extension.kill()
        except Exception as exc:
            _log.warning("ignored an error while killing %s: %r", extension, exc, exc_info=True)

    gevent.joinall([gevent.spawn(kill, extension) for extension in extensions])
