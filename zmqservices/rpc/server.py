"""Serves the @rpc methods of one container: takes calls from the node, hands them to workers, and sends the results.

Internal. Services use `zmqservices.rpc`.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

from gevent.event import Event

from zmqservices import configuration, constants
from zmqservices.cluster.calls.incoming import IncomingCall
from zmqservices.exceptions import (
    ContainerBeingKilled,
    MalformedRequest,
    MessageTooLarge,
    UnserializableValueError,
    WorkerCancelled,
    serialize,
)
from zmqservices.extensions import ProviderCollector, SharedExtension
from zmqservices.membership import Membership
from zmqservices.utils.near_names import no_such_method
from zmqservices.utils.shown_signatures import shown_signature
from zmqservices.worker_context import AdaptiveLimit, Container, ExcInfo, Outcome, WorkerContext, exc_info_of

_log = logging.getLogger(__name__)


class RpcServer(ProviderCollector, SharedExtension):
    """The server of one container's @rpc methods, which are its providers."""

    membership = Membership()

    def __init__(self) -> None:
        super().__init__()
        self._methods: dict[str, Any] = {}
        self._is_serving = False
        self._drained: Event | None = None

    # --- life cycle --------------------------------------------------------------------------------------------------

    def bind(self, container: Container) -> RpcServer:
        bound = super().bind(container)
        bound._read_settings()  # A wrong setting is reported before anything starts.
        return bound

    def setup(self) -> None:
        self._read_settings()

    def _read_settings(self) -> None:
        config = self.container.config
        self._max_queued = configuration.whole_number(
            config, constants.MAX_QUEUED_CALLS_CONFIG_KEY, constants.DEFAULT_MAX_QUEUED_CALLS
        )
        self._max_bytes = configuration.whole_number(
            config, constants.MAX_QUEUED_BYTES_CONFIG_KEY, constants.DEFAULT_MAX_QUEUED_BYTES
        )
        self._max_age = configuration.seconds(
            config, constants.MAX_QUEUED_SECONDS_CONFIG_KEY, constants.DEFAULT_MAX_QUEUED_SECONDS, allow_none=True
        )
        #: From this number of waiting jobs on, it is checked whether the queue is full, or too old.
        self._look_from = self._max_queued if self._max_age is None else 1
        self._with_traceback = configuration.boolean(config, constants.RPC_TRACEBACKS_CONFIG_KEY, True)
        self._queued_bytes = 0

    def start(self) -> None:
        """Called once all extensions are set up: announce the service. From here on calls may arrive."""
        # A strong reference, because the extensions' weak reference costs another look-up per call.
        container = self.container
        self._submit, self._cancel_worker = container.submit, container.cancel
        self._jobs = container.pool.jobs
        # A test may have removed all entrypoints. The service is still announced, so that its callers get MethodNotFound at once.
        self._methods = {provider.method_name: provider for provider in self._providers}
        self._service = container.service_name
        self._node = self.membership.join()
        self._registration = self.membership.registration()
        take = self.take if self._node.settings.keys is None else self._take_and_name_peer
        if container.admission is not None:
            take = partial(self._take_if_let_in, container.admission, take)
        self._registration.serve(self._describe(), take, container.pool.flush, self.cancel, self._jobs)
        self._is_serving = True
        self.membership.before_leaving(self._leave_at_once)

    def stop(self) -> None:
        """Called when all entrypoints have left. If there were none, the server is drained here."""
        super().stop()
        self.drain()

    def drain(self) -> None:
        """Tell callers that the service stops, and return when running calls are answered.

        Called by every entrypoint of the container as it stops. The first call drains; the others wait for it.
        """
        if not self._is_serving:
            return
        if self._drained is not None:
            self._drained.wait()
            return
        self._drained = Event()
        try:
            if not self._registration.drain(self._node.settings.drain_timeout):
                _log.warning("calls of %s were cancelled: they did not end while it was shutting down", self._service)
            self._registration.withdraw()
        finally:
            self._is_serving = False
            self._drained.set()

    def kill(self) -> None:
        """Leave at once. Running calls are answered with an error."""
        self._leave_at_once()

    def _leave_at_once(self) -> None:
        if self._is_serving:
            self._is_serving = False
            self._registration.drop()
            self._registration.withdraw()

    def _describe(self) -> dict[str, dict[str, Any]]:
        described = {}
        for name, provider in self._methods.items():
            function = getattr(self.container.service_cls, name)
            described[name] = {
                "idempotent": provider.idempotent,
                "signature": shown_signature(function),
                "doc": inspect.getdoc(function) or "",
            }
            if provider.hedge:
                described[name]["hedge"] = True
            key = provider.key_place(function)
            if key is not None:
                described[name]["key"] = list(key)
        return described

    # --- calls: runs inside the node's reactor, once per call ----------------------------------------------------------

    def take(self, call: IncomingCall) -> None:
        provider = self._methods.get(call.method)
        if provider is None:
            call.fail(serialize(no_such_method(self._service, call.method, self._methods)))
            self._tell_refused(call, "unknown-method")
            return
        args, kwargs = call.args, call.kwargs or {}
        if call.serializer is not None:
            try:
                args, kwargs = self.membership.serializers(call.serializer).loads(args)
                if not isinstance(args, (list, tuple)) or not isinstance(kwargs, (dict, type(None))):
                    raise ValueError("a list of arguments and a mapping of keyword arguments are needed")
                kwargs = kwargs or {}
            except Exception as exc:
                call.fail(serialize(MalformedRequest(f"arguments that are not {call.serializer!r}: {exc}")))
                self._tell_refused(call, "bad-arguments")
                return
        try:
            provider.check_signature(args, kwargs)
        except Exception as exc:
            call.fail(serialize(exc))
            self._tell_refused(call, "bad-arguments")
            return
        # A quick check first. Some of these jobs may have been dropped, and workers may be free for others.
        if (len(self._jobs) >= self._look_from or self._queued_bytes > self._max_bytes) and self.container_is_full(call):
            return
        deadline = call.deadline
        if provider.timeout is not None:
            deadline = provider.latest(deadline)
        try:
            call.worker = self._submit(
                provider, args, kwargs, call.headers, partial(provider.answer, call), deadline,
                is_flushed=True,
            )
        except ContainerBeingKilled:
            call.refuse("draining", f"{self._service!r} is being killed")
            self._tell_refused(call, "draining")
            return
        self._queued_bytes += call.size

    def _tell_refused(self, call: IncomingCall, reason: str) -> None:
        probes = self.container.probes
        if probes is not None and probes.call_refused is not None:
            probes.call_refused(self._service, call.method, reason)

    def _take_and_name_peer(self, call: IncomingCall) -> None:
        # Not in `take`, so that calls without SECURITY are not slowed down. The worker begins later, at the next flush.
        self.take(call)
        if call.worker is not None:
            call.worker.peer = call.peer

    def _take_if_let_in(self, admission: AdaptiveLimit, take: Callable[[IncomingCall], None], call: IncomingCall) -> None:
        # Not in `take`, so that calls without an adaptive limit are not slowed down.
        if not admission.may_enter():
            call.refuse("overloaded", f"{admission.why_full()} for {self._service!r}")
            self._tell_refused(call, "overloaded")
            return
        take(call)
        if call.worker is not None:
            admission.entered(call.worker)

    def container_is_full(self, call: IncomingCall) -> bool:
        """Load shedding: refuse `call` if too many wait already, so that its caller can try another instance at once."""
        backlog = self.container.pool.backlog()
        if backlog >= self._max_queued or self._queued_bytes > self._max_bytes:
            call.refuse(
                "overloaded",
                f"{backlog} calls ({self._queued_bytes:,} bytes with those that run) wait for a worker of "
                f"{self._service!r}; max_queued_calls is {self._max_queued}, max_queued_bytes {self._max_bytes:,}",
            )
            self._tell_refused(call, "overloaded")
            return True
        if backlog and self._max_age is not None:
            waited = self._oldest_wait()
            if waited > self._max_age:
                call.refuse(
                    "overloaded",
                    f"the oldest of {backlog} calls has waited {waited:.3g} s for a worker of {self._service!r}; "
                    f"max_queued_seconds is {self._max_age:g}",
                )
                self._tell_refused(call, "overloaded")
                return True
        return False

    def _oldest_wait(self) -> float:
        """Seconds that the first queued call has waited. Calls without a deadline do not count."""
        for worker_ctx in self._jobs:
            if worker_ctx.queued_at and not worker_ctx._is_cancelled:
                return monotonic() - worker_ctx.queued_at
        return 0.0

    def cancel(self, worker_ctx: WorkerContext, why: str) -> None:
        """Cancel a worker whose caller no longer waits for the outcome."""
        self._cancel_worker(worker_ctx, WorkerCancelled(why))

    def handle_result(self, call: IncomingCall, worker_ctx: WorkerContext, result: object, exc_info: ExcInfo | None) -> Outcome:
        """Answer `call`. Called by the worker before dependency providers are told of the outcome, which may be replaced."""
        self._queued_bytes -= call.size
        call.size = 0  # An override may call this twice.
        if exc_info is None:
            try:
                if call.serializer is None:
                    call.reply(result)
                else:
                    call.reply(self.membership.serializers(call.serializer).dumps(result), call.serializer)
                return result, exc_info
            except (UnserializableValueError, MessageTooLarge) as error:
                exc_info, result = exc_info_of(error), None
        exc = exc_info[1]
        if isinstance(exc, WorkerCancelled):
            call.refuse("expired", str(exc))
        elif isinstance(exc, ContainerBeingKilled):
            call.refuse("draining", str(exc))
        else:
            call.fail(describe(exc, self._with_traceback))
        return result, exc_info

    def finish(self, call: IncomingCall, worker_ctx: WorkerContext, result: object, exc_info: ExcInfo | None) -> Outcome:
        """Answer `call` unless the `handle_result` of the method's own entrypoint has answered it."""
        if call.is_open:
            return self.handle_result(call, worker_ctx, result, exc_info)
        self._queued_bytes -= call.size
        call.size = 0
        return result, exc_info


def describe(exc: BaseException, with_traceback: bool) -> dict[str, Any]:
    """The mapping that is sent for `exc`. Never raises, because an error while a call is answered would kill the container."""
    if isinstance(exc, UnserializableValueError):
        # Its argument is the value itself. Only the repr is sent, because serializing a generator would run it.
        exc.args = (exc.repr_value,)
    try:
        return serialize(exc, with_traceback)
    except Exception as failure:
        name = type(exc).__name__
        value = f"[this {name} cannot be described: {type(failure).__name__}]"
        return {"exc_type": name, "exc_path": "", "exc_args": [], "value": value}
