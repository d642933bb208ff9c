"""Runs one call: injects dependencies, sets up, runs the method, answers, tells the providers the result, and tears down.

An error before or in the method is the outcome of the call: it is sent to the caller, and the injected providers are told. An
error after the answer is logged, and the remaining steps still run. Only if the answer itself fails (an error of `handle_result`)
the container is killed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, NamedTuple

from gevent import GreenletExit, get_hub

from zmqservices.exceptions import WorkerCancelled
from zmqservices.extensions import DependencyProvider
from zmqservices.probes import Watched
from zmqservices.utils.redaction import shown_arguments
from zmqservices.worker_context import CLOSING, OVER, RUNNING, EntrypointOfCall, ExcInfo, WorkerContext, exc_info_of

_log = logging.getLogger(__name__)

#: The error text of a call that never began.
TOO_LATE = "deadline exceeded before the method was started"

#: The most characters of a caller's id in the log, because callers choose their ids.
LONGEST_CALLER = 200


class Providers(NamedTuple):
    """The providers of a service, and for each hook the providers that have it."""

    injected: tuple[Any, ...]
    set_up: tuple[Any, ...]
    told_results: tuple[Any, ...]
    torn_down: tuple[Any, ...]

    @classmethod
    def of(cls, dependencies: Iterable[DependencyProvider]) -> Providers:
        """Sort the providers by attribute name; in reverse order for the hooks after the method."""
        ordered = sorted(dependencies, key=lambda provider: provider.attr_name or "")
        return cls(
            tuple(ordered),
            tuple(provider for provider in ordered if _has_hook(provider, "worker_setup")),
            tuple(provider for provider in reversed(ordered) if _has_hook(provider, "worker_result")),
            tuple(provider for provider in reversed(ordered) if _has_hook(provider, "worker_teardown")),
        )


def _has_hook(provider: DependencyProvider, name: str) -> bool:
    is_default = getattr(type(provider), name, None) is getattr(DependencyProvider, name)
    return not is_default or name in vars(provider)


def _is_expected(entrypoint: EntrypointOfCall, exc: BaseException) -> bool:
    try:
        return isinstance(exc, entrypoint.expected_exceptions)
    except (AttributeError, TypeError):
        return False


def of_call(worker_ctx: WorkerContext) -> str:
    """A text for the log: the call, its caller and its arguments."""
    caller = str(worker_ctx.immediate_parent_call_id or "")[:LONGEST_CALLER]
    return f"{worker_ctx.call_id}{f', called by {caller},' if caller else ''} with {shown_arguments(worker_ctx)}"


class WorkerLifecycle(Watched):
    """The part of a container that runs calls. Its four hooks may be overridden or wrapped, even late."""

    service_cls: type
    dependencies: Any
    _being_killed: bool
    #: Set once the container has started. Until then they are looked up each time, because providers may still be replaced.
    _settled_providers: Providers | None = None

    def _providers(self) -> Providers:
        return self._settled_providers or Providers.of(self.dependencies)

    def _inject_dependencies(self, worker_ctx: WorkerContext) -> None:
        service = worker_ctx.service
        providers = (self._settled_providers or self._providers()).injected
        provider = None
        try:
            for provider in providers:
                setattr(service, provider.attr_name, provider.get_dependency(worker_ctx))
        except BaseException:
            worker_ctx._injected = providers[: providers.index(provider)]
            raise

    def _worker_setup(self, worker_ctx: WorkerContext) -> None:
        for provider in (self._settled_providers or self._providers()).set_up:
            provider.worker_setup(worker_ctx)

    def _worker_result(
        self, worker_ctx: WorkerContext, result: object = None, exc_info: ExcInfo | None = None
    ) -> None:
        for provider in (self._settled_providers or self._providers()).told_results:
            if worker_ctx._injected is None or provider in worker_ctx._injected:
                try:
                    provider.worker_result(worker_ctx, result, exc_info)
                except BaseException as exc:
                    self._hook_failed("worker_result", worker_ctx, exc)

    def _worker_teardown(self, worker_ctx: WorkerContext) -> None:
        for provider in (self._settled_providers or self._providers()).torn_down:
            if worker_ctx._injected is None or provider in worker_ctx._injected:
                try:
                    provider.worker_teardown(worker_ctx)
                except BaseException as exc:
                    self._hook_failed("worker_teardown", worker_ctx, exc)

    def _run_worker(self, worker_ctx: WorkerContext, now: float) -> bool:
        """Run a call in a worker's greenlet. Returns whether that greenlet must not be used again."""
        deadline = worker_ctx.deadline
        if deadline is not None and now >= deadline:
            self._answer_unstarted(worker_ctx, WorkerCancelled(TOO_LATE))
            return False
        worker_ctx._phase = RUNNING
        result: Any = None
        exc_info: ExcInfo | None = None
        try:
            if self.probes is not None:
                worker_ctx._started_at = now
                probes = self.probes  # Read again, since another thread may just have detached the last probe.
                started = None if probes is None else probes.worker_started
                if started is not None:
                    worker_ctx._injected = ()
                    started(worker_ctx)
                    worker_ctx._injected = None
            service = worker_ctx.service
            if service is None:
                worker_ctx._injected = ()
                service = worker_ctx.service = self.service_cls()
                worker_ctx._injected = None
            self._inject_dependencies(worker_ctx)
            self._worker_setup(worker_ctx)
            method = getattr(service, worker_ctx.entrypoint.method_name)
            kwargs = worker_ctx.kwargs
            result = method(*worker_ctx.args, **kwargs) if kwargs else method(*worker_ctx.args)
            worker_ctx._phase = CLOSING
        except BaseException as exc:
            worker_ctx._phase = CLOSING
            exc_info = exc_info_of(exc)
        try:
            return self._close(worker_ctx, result, exc_info)
        except GreenletExit:
            # The container is being killed, so no hook is called for the outcome.
            return True
        finally:
            worker_ctx._phase = OVER
            # Both refer to the context (an injected proxy does). Without this, the cycle would keep everything of the call until
            # the garbage collector runs.
            worker_ctx._handle_result = worker_ctx.service = None
            # The traceback refers to this frame, so this frame must not refer to the traceback.
            result = exc_info = None

    def _close(self, worker_ctx: WorkerContext, result: object, exc_info: ExcInfo | None) -> bool:
        failure: ExcInfo | None = None
        escaped: ExcInfo | None = None
        # Read once, so that a probe that is attached during the end of a call is not told of it.
        probes = self.probes
        if exc_info is not None:
            if self._being_killed and issubclass(exc_info[0], GreenletExit):
                return True
            escaped = exc_info
            self._log_error(worker_ctx, exc_info)
        try:
            if worker_ctx._handle_result is not None:
                try:
                    result, exc_info = worker_ctx._handle_result(worker_ctx, result, exc_info)
                except BaseException as exc:
                    self._raise_if_killed(exc)
                    failure = exc_info_of(exc)
                    result, exc_info = None, failure
            if probes is not None and probes.worker_result is not None:
                probes.worker_result(worker_ctx, result, exc_info)
            try:
                self._worker_result(worker_ctx, result, exc_info)
            except BaseException as exc:
                self._hook_failed("worker_result", worker_ctx, exc)
            try:
                self._worker_teardown(worker_ctx)
            except BaseException as exc:
                self._hook_failed("worker_teardown", worker_ctx, exc)
            if probes is not None and probes.worker_ended is not None:
                awaited = probes.awaited_workers
                if awaited is None or worker_ctx in awaited:
                    probes.worker_ended(worker_ctx, result, exc_info)
            if failure is not None:
                self._answer_failed(worker_ctx, failure)
            if escaped is None:
                return self._being_killed
            if issubclass(escaped[0], (SystemExit, KeyboardInterrupt)):
                # Raised in the main greenlet, so that the process ends. The caller has its answer.
                get_hub().handle_system_error(escaped[0], escaped[1], escaped[2])
            return self._being_killed or issubclass(escaped[0], GreenletExit)
        finally:
            result = exc_info = failure = escaped = None

    def _answer_unstarted(self, worker_ctx: WorkerContext, exc: BaseException) -> None:
        """Answer a call that never began. There is no instance, and no provider is called."""
        worker_ctx._phase = OVER
        probes = self.probes
        if probes is not None and probes.worker_dropped is not None:
            probes.worker_dropped(worker_ctx, exc)
        handle_result, worker_ctx._handle_result = worker_ctx._handle_result, None
        if handle_result is None:
            return
        try:
            handle_result(worker_ctx, None, (type(exc), exc, exc.__traceback__))
        except BaseException as failure:
            self._raise_if_killed(failure)
            self._answer_failed(worker_ctx, exc_info_of(failure))

    def _answer_failed(self, worker_ctx: WorkerContext, exc_info: ExcInfo) -> None:
        raise NotImplementedError

    def _raise_if_killed(self, exc: BaseException) -> None:
        if self._being_killed and isinstance(exc, GreenletExit):
            raise exc

    def _hook_failed(self, hook: str, worker_ctx: WorkerContext, exc: BaseException) -> None:
        self._raise_if_killed(exc)
        _log.error("error in %s of %s: %r", hook, worker_ctx.call_id, exc, exc_info=exc)
        if isinstance(exc, (SystemExit, KeyboardInterrupt)):
            get_hub().handle_system_error(type(exc), exc, exc.__traceback__)

    def _log_error(self, worker_ctx: WorkerContext, exc_info: ExcInfo) -> None:
        exc = exc_info[1]
        if isinstance(exc, WorkerCancelled):
            _log.warning("cancelled worker of %s: %s", worker_ctx.call_id, exc)
        elif _is_expected(worker_ctx.entrypoint, exc):
            # The traceback would add nothing.
            shown = exc_info if _log.isEnabledFor(logging.DEBUG) else None
            told = f"{type(exc).__name__}: {exc}"
            _log.warning("(expected) error handling worker of %s: %s", of_call(worker_ctx), told, exc_info=shown)
        else:
            _log.error("error handling worker of %s: %s: %s", of_call(worker_ctx), type(exc).__name__, exc, exc_info=exc_info)
