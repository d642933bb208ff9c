"""Asks all nodes of a cluster for their statistics again and again, over one lasting connection to each."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, Any

from zmqservices.cli.alive import DEAD, listens
from zmqservices.cli.cluster_rows import GONE, SILENT, ClusterRow, ClusterRows, Listed
from zmqservices.cli.listing import state_of
from zmqservices.exceptions import ConfigurationError, RemoteUnavailable, RpcTimeout
from zmqservices.observability.node_address import NodeAddress, node_address

if TYPE_CHECKING:
    from discovery import Directory, Seen
    from zmqservices.standalone.rpc import ServiceRpcProxy

#: The most nodes that are asked at the same time.
ASKED_AT_ONCE = 32

#: Seconds for which one question waits for a connection, if more questions follow.
CONNECT_TIMEOUT = 0.3


class NodeWatch:
    """Asks the nodes that `directory`, which was started before, lists. `ask` asks each once; `rows` may be read at any time.

    A node must connect within `connect_timeout` seconds, and answer within `timeout` seconds in all.
    """

    def __init__(
        self, directory: Directory, settings: dict[str, Any], timeout: float, connect_timeout: float = CONNECT_TIMEOUT
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._timeout = timeout
        self._connect_timeout = min(connect_timeout, timeout)
        #: Since when a node has no connection although something listens at its address (monotonic).
        self._unconnected: dict[NodeAddress, float] = {}
        self._rows = ClusterRows()
        self._lock = Lock()
        self._clients: dict[NodeAddress, ServiceRpcProxy] = {}
        self._proxies: dict[NodeAddress, Any] = {}
        self._asked: set[NodeAddress] = set()
        self._threads = ThreadPoolExecutor(ASKED_AT_ONCE, "node watch")
        self._is_closed = False

    def ask(self, wait: bool = False) -> None:
        """Ask all nodes that do not still have to answer. With `wait`, return once all have answered or failed."""
        seen = [one for one in self._directory.view().records.values() if not one.record.service.startswith("events:")]
        nodes = {node for one in seen if (node := node_address(one.record)) is not None}
        with self._lock:
            self._rows.update(map(_listed, seen), time.monotonic())
            free = nodes - self._asked
            self._asked |= free
        self._close(set(self._clients) - nodes - self._asked)
        asked = [self._threads.submit(self._ask, node) for node in free if self._open(node)]
        for one in asked if wait else ():
            one.result()

    def rows(self) -> list[tuple[ClusterRow, list[ClusterRow]]]:
        """The rows of now; see `ClusterRows.rows`."""
        with self._lock:
            return self._rows.rows()

    def describe(self) -> str:
        """Name the directory, and say how fresh its view is."""
        return self._directory.describe()

    def close(self) -> None:
        """Close all connections."""
        self._is_closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._close(self._clients)
        self._threads.shutdown()

    def _open(self, node: NodeAddress) -> bool:
        """Open a client of the node. False if the record names an address or a key that cannot be used."""
        from zmqservices.cluster.operators import NODE
        from zmqservices.standalone.rpc import ServiceRpcProxy

        if node not in self._clients:
            own = {
                **self._settings, "DIRECTORY": node.only(NODE), "serializer": "msgpack",
                "rpc_wait_for_service": self._connect_timeout,
            }  # fmt: skip
            try:
                client = ServiceRpcProxy(NODE, own, timeout=self._timeout)
                self._proxies[node] = client.start()
            except ConfigurationError as error:
                with self._lock:
                    self._rows.failed(node.endpoint, f"{type(error).__name__}: {error}", "")
                    self._asked.discard(node)
                return False
            self._clients[node] = client
        return True

    def _close(self, nodes: Iterable[NodeAddress]) -> None:
        for node in list(nodes):
            self._unconnected.pop(node, None)
            del self._proxies[node]
            self._clients.pop(node).stop()

    def _ask(self, node: NodeAddress) -> None:
        try:
            answer = self._proxies[node].stats(brief=True)
            self._unconnected.pop(node, None)
            with self._lock:
                self._rows.answered(node.endpoint, answer)
        except Exception as error:
            if not self._is_closed:
                # Any error: this release may not be able to read the answer of another one.
                state = self._state_after(node, error)
                with self._lock:
                    self._rows.failed(node.endpoint, f"{type(error).__name__}: {error}", state)
        finally:
            with self._lock:
                self._asked.discard(node)

    def _state_after(self, node: NodeAddress, error: Exception) -> str:
        """The state of a node after this error: GONE, SILENT, or "" if the error does not tell (yet)."""
        if isinstance(error, RpcTimeout):
            return SILENT
        if not isinstance(error, RemoteUnavailable):
            return ""
        if not listens(node.endpoint):
            return GONE
        since = self._unconnected.setdefault(node, time.monotonic())
        return SILENT if time.monotonic() - since >= self._timeout - self._connect_timeout else ""


def _listed(seen: Seen) -> Listed:
    record, node = seen.record, node_address(seen.record)
    state = state_of(seen)
    if state == DEAD:
        state = GONE
    elif seen.suspect:
        state = "SUSPECT"
    return Listed(record.service, record.instance, state, "" if node is None else node.endpoint, record.host or "")
