"""Calls services from a plain Python program, such as a web worker or a test. It needs no event loop and no monkey-patching.

    with ClusterRpcProxy({"DIRECTORY": "tcp://10.0.0.5:4190"}, timeout=5) as cluster:
        cluster.maths.add(2, 3)

Thread-safe. It is best to keep one client for the life of the process.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from discovery.model import shown_url
from zmqservices import configuration, constants
from zmqservices.cluster.calls.call import PendingCall
from zmqservices.cluster.calls.caller import Caller
from zmqservices.cluster.client import ClientNode
from zmqservices.cluster.settings import Settings
from zmqservices.membership import own_serializer, serializers_of
from zmqservices.removed import removed_names
from zmqservices.rpc.providers import add_context
from zmqservices.rpc.proxies import UNSET, Client, ClusterProxy, HedgedClient, ServiceProxy, Timeout, check_hedge, check_timeout
from zmqservices.standalone.collected import let_go_of
from zmqservices.transport.reactor import Reentered
from zmqservices.utils.native_threads import reentrant_lock
from zmqservices.worker_context import WorkerContext, is_own_id

__all__ = ["ClusterRpcClient", "ClusterRpcProxy", "ServiceRpcClient", "ServiceRpcProxy", "StandaloneClient"]


class StandaloneClient(Client):
    """The calls of one standalone client."""

    __slots__ = (
        "_cluster", "_context", "_timeout", "_serializer", "_never_stopped", "_call_id", "_prefix", "_numbers", "__weakref__",
    )  # fmt: skip

    def __init__(self, config: Mapping[str, Any], context_data: Mapping[str, Any] | None, timeout: float | None) -> None:
        find = serializers_of(config)
        self._serializer = own_serializer(config, find)
        self._cluster: ClientNode | None = ClientNode(Settings.read(config))
        self._context: dict[str, Any] = {}
        add_context(self._context, context_data or {})
        self._timeout = self._cluster.settings.rpc_timeout if timeout is None else timeout
        # Nothing that the client holds refers back to it, so that it is stopped once the program has no reference to it.
        what = f"a standalone RPC client of {shown_url(self._cluster.settings.directory)}"
        self._never_stopped = let_go_of(self, self._cluster.stop, what)
        #: The one id of this client if a test replaces the function that makes call ids, as Nameko's tests do.
        self._call_id: str | None = None
        #: Otherwise, the beginning of each call id; the number of the call follows.
        self._prefix = ""
        self._numbers = itertools.count(1)

    def begin(
        self, service: str, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], timeout: Timeout,
        key: bytes | None = None, hedge: bool | None = None,
    ) -> tuple[Caller, PendingCall]:
        cluster = self._cluster
        if cluster is None:
            raise RuntimeError("This RPC client was stopped and can no longer be used; start a new one")
        caller = cluster.caller()
        prefix = self._prefix
        call_id = f"{prefix}{next(self._numbers)}" if prefix else self._first_call_id()
        headers = {constants.CALL_ID_STACK_CONTEXT_KEY: [call_id], **self._context}
        if timeout is UNSET:
            timeout = self._timeout
        try:
            return caller, caller.enter(service, method, args, kwargs, headers, timeout, None, self._serializer, key, hedge)
        except Reentered:
            pass
        for caller in cluster.callers_aside():
            try:
                return caller, caller.enter(service, method, args, kwargs, headers, timeout, None, self._serializer, key, hedge)
            except Reentered:
                pass
        raise AssertionError("there is always one more")

    def _first_call_id(self) -> str:
        """The id of the first call. The ids of later calls end with a number, so that the effects of each can be told apart."""
        if self._call_id is None:
            unique = WorkerContext.make_call_id()
            self._call_id = f"standalone_rpc_proxy.call.{unique}"
            if is_own_id(unique):
                self._prefix = f"{self._call_id}-"
        return self._call_id

    def call_state(self) -> list[dict[str, Any]]:
        return [] if self._cluster is None else self._cluster.call_state()

    def stop(self) -> None:
        self._never_stopped.detach()
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.stop()


class ClusterRpcClient:
    """A client of all services; the module shows its use.

    `config`: a mapping, or None for the process's own configuration. `context_data`: sent as context with every call.
    `timeout`: seconds per call; None for the setting `rpc_timeout` (30 s by default). The client can be used on after an
    RpcTimeout; late answers are dropped. `hedge`: whether an unusually slow call of an idempotent method is also sent to a
    second instance; None leaves that to the service and the setting `rpc_hedge`.

    Several threads may enter `with` blocks of one client: the last one that leaves its block stops it.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        context_data: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        hedge: bool | None = None,
        **options: object,
    ) -> None:
        check_timeout(timeout, "a client")
        check_hedge(hedge, "a client")
        self._config = configuration.config if config is None else config
        self._context_data = context_data
        self._timeout = timeout
        self._hedge = hedge
        #: Options of Nameko's clients, such as `reply_listener_cls`, that have no effect without a broker.
        self.options = options
        self._client: StandaloneClient | None = None
        #: Guards the next three. `_entered` counts the blocks that were entered; `start` counts as one until `stop`.
        self._lock = reentrant_lock()
        self._entered = 0
        self._is_started = False
        #: Blocks that were entered when `stop` was called. Their end has no effect.
        self._ended = 0

    def start(self) -> Any:
        """Return the proxy, and begin to connect. Does not wait: the first call waits until the service is found."""
        with self._lock:
            proxy = self._proxy(self._hedged(self._connected()))
            self._is_started = True
            return proxy

    def _connected(self) -> StandaloneClient:
        if self._client is None:
            self._client = StandaloneClient(self._config, self._context_data, self._timeout)
        return self._client

    def _proxy(self, client: Client) -> Any:
        return ClusterProxy(client)

    def _hedged(self, client: StandaloneClient) -> Client:
        return client if self._hedge is None else HedgedClient(client, self._hedge)

    def call_state(self) -> list[dict[str, Any]]:
        """The services that this client calls from the current thread, for monitoring: one mapping per service.

        `instances` says of each instance whether it is up, for how long it is ejected, and why it gets no calls. `retries` is the
        retry budget's present size. The list is empty before the first call and after `stop`. docs/resilience.rst shows an
        example.
        """
        client = self._client
        return [] if client is None else client.call_state()

    def stop(self) -> None:
        """Disconnect all threads. Proxies of this client can no longer be used; the client itself can be started again."""
        with self._lock:
            self._ended += self._entered
            client = self._given_up()
        if client is not None:
            client.stop()

    def _given_up(self) -> StandaloneClient | None:
        client, self._client = self._client, None
        self._entered, self._is_started = 0, False
        return client

    def __enter__(self) -> Any:
        with self._lock:
            proxy = self._proxy(self._hedged(self._connected()))
            self._entered += 1
            return proxy

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            if self._ended:
                self._ended -= 1
                return
            self._entered -= 1
            if self._entered or self._is_started:
                return
            client = self._given_up()
        if client is not None:
            client.stop()


class ServiceRpcClient(ClusterRpcClient):
    """A client of one service: `with ServiceRpcClient("maths") as maths: maths.add(2, 3)`."""

    def __init__(
        self,
        service_name: str,
        config: Mapping[str, Any] | None = None,
        context_data: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        hedge: bool | None = None,
        **options: object,
    ) -> None:
        super().__init__(config, context_data, timeout, hedge, **options)
        self._service_name = service_name

    def _proxy(self, client: Client) -> Any:
        return ServiceProxy(client, self._service_name)


ClusterRpcProxy = ClusterRpcClient
ServiceRpcProxy = ServiceRpcClient

_NO_LISTENER = "there are no reply queues to listen to, and one client serves all threads; leave `reply_listener_cls` out"
__getattr__ = removed_names(
    __name__,
    {
        "SingleThreadedReplyListener": _NO_LISTENER,
        "PollingQueueConsumer": _NO_LISTENER,
        "ConsumeEvent": _NO_LISTENER,
        "StandaloneProxyBase": "use ClusterRpcProxy, which ServiceRpcProxy is made of",
    },
)
