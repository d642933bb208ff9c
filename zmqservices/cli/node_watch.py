"""Asks all nodes of a cluster for their statistics again and again, each over a connection that is kept."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Any

from zmqservices.cli.alive import DEAD
from zmqservices.cli.cluster_rows import GONE, SILENT, ClusterRow, ClusterRows, Listed
from zmqservices.cli.listing import OPERATORS, only_at, state_of
from zmqservices.cli.nodes import NodeAddress
from zmqservices.exceptions import RemoteUnavailable, RpcTimeout, ZmqServicesError

if TYPE_CHECKING:
    from discovery import Directory, Seen
    from zmqservices.standalone.rpc import ServiceRpcProxy

#: Nodes that are asked at once.
ASKED_AT_ONCE = 32

#: Seconds for which a question waits for a connection: a node to which there is none is gone.
CONNECT_TIMEOUT = 0.3


class NodeWatch:
    """`directory` was started. `ask` begins one round; `rows` may be looked at whenever."""

    def __init__(self, directory: Directory, settings: dict[str, Any], timeout: float) -> None:
        self._directory = directory
        self._settings = settings
        self._timeout = timeout
        self._rows = ClusterRows()
        self._lock = Lock()
        self._clients: dict[NodeAddress, ServiceRpcProxy] = {}
        self._proxies: dict[NodeAddress, Any] = {}
        self._asked: set[NodeAddress] = set()
        self._threads = ThreadPoolExecutor(ASKED_AT_ONCE, "node watch")
        self._is_closed = False

    def ask(self, wait: bool = False) -> None:
        """Ask all nodes that have no question to answer; with `wait`, return when all have answered or failed."""
        seen = [one for one in self._directory.view().records.values() if not one.record.service.startswith("events:")]
        nodes = {node for one in seen if (node := _node_of(one)) is not None}
        with self._lock:
            self._rows.update(map(_listed, seen), time.monotonic())
            free = nodes - self._asked
            self._asked |= free
        self._close(set(self._clients) - nodes - self._asked)
        for node in free:
            self._open(node)
        asked = [self._threads.submit(self._ask, node) for node in free]
        for one in asked if wait else ():
            one.result()

    def rows(self) -> list[tuple[ClusterRow, list[ClusterRow]]]:
        """What is known now; see `ClusterRows.rows`."""
        with self._lock:
            return self._rows.rows()

    def describe(self) -> str:
        """The directory, and how fresh its view is."""
        return self._directory.describe()

    def close(self) -> None:
        """End all questions."""
        self._is_closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._close(self._clients)
        self._threads.shutdown()

    def _open(self, node: NodeAddress) -> None:
        from zmqservices.cluster.operators import NODE
        from zmqservices.standalone.rpc import ServiceRpcProxy

        if node not in self._clients:
            own = {
                **self._settings, "DIRECTORY": only_at(NODE, node.endpoint, node.public_key), "serializer": "msgpack",
                "rpc_wait_for_service": CONNECT_TIMEOUT,
            }  # fmt: skip
            client = self._clients[node] = ServiceRpcProxy(NODE, own, timeout=self._timeout)
            self._proxies[node] = client.start()

    def _close(self, nodes: Iterable[NodeAddress]) -> None:
        for node in list(nodes):
            del self._proxies[node]
            self._clients.pop(node).stop()

    def _ask(self, node: NodeAddress) -> None:
        try:
            answer, problem, state = self._proxies[node].stats(brief=True), "", ""
        except ZmqServicesError as error:
            answer, problem = None, f"{type(error).__name__}: {error}"
            state = GONE if isinstance(error, RemoteUnavailable) else SILENT if isinstance(error, RpcTimeout) else ""
        except (RuntimeError, KeyError):
            if not self._is_closed:
                raise
            return
        with self._lock:
            self._asked.discard(node)
            with suppress(ValueError):  # A node of another release may answer what this one cannot read.
                if answer is None:
                    self._rows.failed(node.endpoint, problem, state)
                else:
                    self._rows.answered(node.endpoint, answer)


def _node_of(seen: Seen) -> NodeAddress | None:
    endpoints = seen.record.endpoints
    address = endpoints.get(OPERATORS) or endpoints.get("rpc")
    return NodeAddress(address, seen.record.public_key) if address else None


def _listed(seen: Seen) -> Listed:
    record, node = seen.record, _node_of(seen)
    state = state_of(seen)
    if state == DEAD:
        state = GONE
    elif seen.suspect:
        state = "SUSPECT"
    return Listed(record.service, record.instance, state, "" if node is None else node.endpoint, record.host or "")
