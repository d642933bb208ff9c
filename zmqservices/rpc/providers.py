"""Injects proxies, with which a service calls other services."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from zmqservices import constants
from zmqservices.cluster.calls.call import PendingCall
from zmqservices.cluster.calls.caller import Caller
from zmqservices.extensions import DependencyProvider
from zmqservices.membership import Membership
from zmqservices.rpc.proxies import UNSET, Client, ClusterProxy, HedgedClient, ServiceProxy, Timeout, check_hedge, check_timeout
from zmqservices.utils.native_threads import get_ident
from zmqservices.wire.serializers import Serializer
from zmqservices.worker_context import WorkerContext

__all__ = ["ClusterRpc", "RpcProvider", "RpcProxy", "ServiceRpc"]


class WorkerClient(Client):
    """Makes the calls of one worker, with its context data and call ids. No call lasts longer than the worker's deadline."""

    __slots__ = ("worker_ctx", "_caller", "_timeout", "_serializer")

    def __init__(self, worker_ctx: WorkerContext, caller: Caller, timeout: Timeout, serializer: Serializer | None) -> None:
        self.worker_ctx = worker_ctx
        self._caller = caller
        self._timeout = caller.settings.rpc_timeout if timeout is UNSET else timeout
        self._serializer = serializer

    def begin(
        self, service: str, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], timeout: Timeout,
        key: bytes | None = None, hedge: bool | None = None,
    ) -> tuple[Caller, PendingCall]:
        worker_ctx, caller = self.worker_ctx, self._caller
        headers: dict[str, Any] = {constants.CALL_ID_STACK_CONTEXT_KEY: worker_ctx.call_id_stack}
        if worker_ctx.data:
            add_context(headers, worker_ctx.data)
        if timeout is UNSET:
            timeout = self._timeout
        begin = caller.begin if get_ident() == caller.thread else caller.begin_outside
        call = begin(
            service, method, args, kwargs, headers, timeout, worker_ctx.deadline, self._serializer, key, hedge
        )
        return caller, call


def add_context(headers: dict[str, Any], data: Mapping[str, Any]) -> None:
    """Add context data to `headers`. Values that are None are left out with a warning, because a header needs a value."""
    for key, value in data.items():
        if value is None:
            warnings.warn(
                f"context data {key!r} is None and is not sent with calls", UserWarning, stacklevel=4
            )
        elif key != constants.CALL_ID_STACK_CONTEXT_KEY:
            headers[key] = value


class RpcProvider(DependencyProvider):
    """The base of the two providers that inject proxies."""

    membership = Membership()

    def __init__(self, *, timeout: Timeout = UNSET, hedge: bool | None = None, **options: object) -> None:
        super().__init__()
        check_timeout(timeout, "a proxy")
        check_hedge(hedge, "a proxy")
        self.timeout = timeout
        self.hedge = hedge
        #: Publisher options of Nameko applications. They configured a broker and have no effect here.
        self.options = options

    def setup(self) -> None:
        self._caller = self.membership.join().caller

    def call_state(self) -> list[dict[str, Any]]:
        """The services that this process calls, for monitoring; see `ClusterRpcClient.call_state`.

        To be called on the service's own thread.
        """
        return self._caller.call_state()

    def client(self, worker_ctx: WorkerContext) -> Client:
        client = WorkerClient(worker_ctx, self._caller, self.timeout, self.membership.serializer)
        return client if self.hedge is None else HedgedClient(client, self.hedge)


class ServiceRpc(RpcProvider):
    """Injects a proxy of one service. `timeout`: seconds per call; the default is the setting `rpc_timeout`.

    `hedge`: whether unusually slow calls of idempotent methods are also sent to a second instance; the default is left to the
    service and the setting `rpc_hedge`.
    """

    def __init__(
        self, target_service: str, *, timeout: Timeout = UNSET, hedge: bool | None = None, **options: object
    ) -> None:
        super().__init__(timeout=timeout, hedge=hedge, **options)
        self.target_service = target_service

    def setup(self) -> None:
        super().setup()
        self._caller.expect(self.target_service)

    def get_dependency(self, worker_ctx: WorkerContext) -> ServiceProxy:
        return ServiceProxy(self.client(worker_ctx), self.target_service)


class ClusterRpc(RpcProvider):
    """Injects a proxy of all services: `self.cluster.maths.add(2, 3)`. Takes the options of `ServiceRpc`."""

    def get_dependency(self, worker_ctx: WorkerContext) -> ClusterProxy:
        return ClusterProxy(self.client(worker_ctx))


RpcProxy = ServiceRpc
