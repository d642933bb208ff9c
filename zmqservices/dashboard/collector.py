"""Asks the nodes of a cluster for their statistics again and again, and makes pictures of the answers while somebody looks.

One greenlet watches the directory, and one for each node asks the node. A probe reports broken connections at once.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import gevent
from gevent.event import Event
from gevent.pool import Pool

import discovery
from zmqservices import configuration, constants, probes
from zmqservices.cluster.operators import NODE
from zmqservices.cluster.settings import keys_of
from zmqservices.dashboard.cluster_state import MALFORMED, ClusterState, ListedInstance, unknown_form
from zmqservices.dashboard.details import details
from zmqservices.dashboard.picture import picture_of
from zmqservices.exceptions import UnknownService, ZmqServicesError
from zmqservices.observability.node_address import NodeAddress, node_address
from zmqservices.standalone.rpc import ServiceRpcClient

_log = logging.getLogger(__name__)

#: Seconds: between two questions to one node; in which it must answer; between two pictures, at most and at least.
INTERVAL, TIMEOUT, LONGEST_PAUSE, SHORTEST_PAUSE = 1.0, 1.5, 1.0, 0.1
#: For details that a user opened: nodes that are asked at the same time, and seconds in which each must answer.
ASKED_AT_ONCE, DETAIL_TIMEOUT = 16, 3.0
#: The most dead letters that are shown from each publisher.
MOST_DEAD_LETTERS = 100
#: The most instances of a service that are asked for its contract: usually all have the same, and one may not answer.
MOST_ASKED = 3


class _Links(probes.Probe):
    """Reports connections that broke or are silent."""

    def __init__(self, lost: Callable[[str], None], suspect: Callable[[str], None]) -> None:
        self._lost = lost
        self._suspect = suspect

    def link_lost(self, node: str, endpoint: str) -> None:
        self._lost(endpoint)

    def link_suspect(self, node: str, endpoint: str, seconds: float) -> None:
        self._suspect(endpoint)


class Collector:
    """Collects from the cluster that `settings` name. Runs on the hub of the thread that calls `start`, until `stop`."""

    def __init__(self, settings: Mapping[str, Any], clock: Callable[[], float] = time.time) -> None:
        self._settings = {**settings, "serializer": "msgpack", "rpc_wait_for_service": TIMEOUT}
        self._clock = clock
        self.state = ClusterState(clock())
        cache = configuration.text(settings, constants.DIRECTORY_CACHE_CONFIG_KEY, None)
        self._directory = discovery.open_directory(
            configuration.directory_url(settings),
            namespace=configuration.namespace(settings),
            cache_dir=None if cache == "none" else cache,
            host=False,
            keys=keys_of(settings),
        )
        self._namespace = configuration.namespace(settings)
        self._probe = _Links(self._lost, self._suspect)
        #: Addresses whose connection this process is closing, so that its end is not taken for a loss.
        self._closing: list[str] = []
        self._asking: dict[NodeAddress, gevent.Greenlet] = {}
        self._greenlets: list[gevent.Greenlet] = []
        self._is_changed = Event()
        self._is_drawn = Event()
        #: Whether somebody waits for the next picture.
        self._is_wanted = Event()
        #: The number of the newest picture, which grows, and this picture in JSON.
        self.number = 0
        self.picture = b"{}"
        #: The timeline in JSON, and its version. It changes less often than the picture.
        self.timeline = b"[]"
        self.timeline_version = 0

    # --- life cycle ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect and begin to ask. Returns at once, before any answer."""
        self._view_changed = Event()
        woken = gevent.get_hub().loop.async_()
        woken.start(self._view_changed.set)
        self._woken = woken
        probes.attach(self._probe)
        self._unsubscribe = self._directory.subscribe(lambda view: woken.send())
        self._directory.start()
        self._greenlets = [gevent.spawn(self._watch), gevent.spawn(self._draw)]

    def stop(self) -> None:
        """Disconnect from the directory and all nodes."""
        self._unsubscribe()
        probes.detach(self._probe)
        gevent.killall([*self._greenlets, *self._asking.values()])
        self._asking.clear()
        self._directory.stop()
        self._woken.close()

    # --- the directory ---------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while True:
            self._view_changed.clear()
            view = self._directory.view()
            now = self._clock()
            self.state.listed((_listed(seen) for seen in view.records.values()), now, is_complete=view.fresh)
            self.state.expire(now)
            self._meet_nodes()
            self._is_changed.set()
            self._view_changed.wait(INTERVAL)

    def _meet_nodes(self) -> None:
        for address in self.state.nodes.keys() - self._asking.keys():
            self._asking[address] = gevent.spawn(self._ask_on, address)
        for address in self._asking.keys() - self.state.nodes.keys():
            self._asking.pop(address).kill(block=False)

    # --- the nodes -------------------------------------------------------------------------------------------------------

    def _ask_on(self, address: NodeAddress) -> None:
        """Ask one node until it is not listed any more."""
        # Spread the questions to the nodes over the interval.
        gevent.sleep(hash(address) % 100 / 100 * min(INTERVAL, 0.01 * len(self.state.nodes)))
        while True:
            try:
                self._ask_over_one_connection(address)
            except ZmqServicesError as error:
                # A record may name an address or a key that cannot be used.
                self.state.failed(address, f"{type(error).__name__}: {error}")
            gevent.sleep(INTERVAL)

    def _ask_over_one_connection(self, address: NodeAddress) -> None:
        with self._connected(NODE, address) as node:
            while True:
                began = self._clock()
                try:
                    self._ask_once(address, node)
                except ZmqServicesError as error:
                    self.state.failed(address, f"{type(error).__name__}: {error}")
                except MALFORMED as error:
                    self.state.failed(address, unknown_form(error))
                gevent.sleep(max(SHORTEST_PAUSE, INTERVAL - (self._clock() - began)))

    def _ask_once(self, address: NodeAddress, node: Any) -> None:
        state = self.state.nodes.get(address)
        if state is not None and state.info is None:
            self.state.described(address, node.info.with_timeout(TIMEOUT)())
        answer = node.stats.with_timeout(TIMEOUT)(brief=True, after=self.state.last_number(address))
        is_first = state is not None and state.answer is None
        self.state.answered(address, answer, self._clock())
        if is_first:
            self._is_changed.set()

    def _client(self, service: str, address: NodeAddress) -> ServiceRpcClient:
        """A client that knows the service on this one node only."""
        return ServiceRpcClient(service, {**self._settings, "DIRECTORY": address.only(service)}, timeout=DETAIL_TIMEOUT)

    @contextmanager
    def _connected(self, service: str, address: NodeAddress) -> Iterator[Any]:
        client = self._client(service, address)
        try:
            yield client.start()
        finally:
            self._closing.append(address.endpoint)
            try:
                client.stop()
            finally:
                self._closing.remove(address.endpoint)

    def _lost(self, endpoint: str) -> None:
        if endpoint not in self._closing:
            self.state.lost(endpoint, self._clock())
            self._is_changed.set()

    def _suspect(self, endpoint: str) -> None:
        self.state.suspected(endpoint)
        self._is_changed.set()

    # --- the picture -----------------------------------------------------------------------------------------------------

    def _draw(self) -> None:
        while True:
            self._is_wanted.wait()
            self._is_changed.wait(LONGEST_PAUSE)
            self._is_changed.clear()
            self._is_wanted.clear()
            self.draw()
            # Changes within this pause share a picture.
            gevent.sleep(SHORTEST_PAUSE)

    def draw(self) -> None:
        """Make a new picture of the present state."""
        view = self._directory.view()
        told = {
            "at": self._clock(),
            "namespace": self._namespace,
            "directory": {"text": self._directory.describe(), "fresh": bool(view.fresh)},
            **picture_of(self.state),
        }
        self.picture = to_json(told)
        if self.timeline_version != self.state.timeline.version:
            self.timeline_version = self.state.timeline.version
            self.timeline = to_json(self.state.timeline.to_list())
        self.number += 1
        drawn, self._is_drawn = self._is_drawn, Event()
        drawn.set()

    def next_picture(self, after: int, timeout: float) -> bytes | None:
        """Wait for a picture with a number above `after`, and return the newest. None after `timeout` seconds without one.

        Pictures are only made while somebody waits for one, so who has seen none begins with the number of the newest.
        """
        if self.number <= after:
            self._is_wanted.set()
            self._is_drawn.wait(timeout)
        return self.picture if self.number > after else None

    # --- details that a user has opened ----------------------------------------------------------------------------------------

    def details(self, service: str, instance: str | None) -> dict[str, Any]:
        """See `details.details`. Raises UnknownService if no such instance is listed."""
        nodes = self._nodes_of(service, instance)
        answers = [answer for answer, _ in self._ask_all(NODE, nodes, "stats") if answer is not None]
        return details(self.state, service, instance, answers)

    def contract(self, service: str) -> dict[str, Any]:
        """The `openapi` and `asyncapi` documents of a service, as the first instance that has them tells them, and `problems`.

        A document that no instance has is None. Raises UnknownService if no instance is listed.
        """
        found: dict[str, Any] = {"openapi": None, "asyncapi": None, "problems": []}
        nodes = list(self._nodes_of(service, None))[:MOST_ASKED]
        if not nodes:
            found["problems"].append("none of its processes can be asked")
        for answer, problem in self._ask_all(NODE, nodes, "schema"):
            told = problem or (answer or {}).get("problem")
            if told:
                found["problems"].append(told)
            for one in (answer or {}).get("instances", ()):
                if one["service"] == service:
                    for kind in ("openapi", "asyncapi"):
                        found[kind] = found[kind] or one.get(kind)
        return found

    def _nodes_of(self, service: str, instance: str | None) -> set[NodeAddress]:
        addresses = {
            one.listed.address
            for one in self.state.instances.values()
            if one.listed.service == service and instance in (None, one.listed.instance)
        }
        if not addresses:
            raise UnknownService(service, "no such instance is listed")
        nodes = {address for address in addresses if address is not None and not self._is_lost(address)}
        return nodes | self.state.addresses_of(service, instance)

    def _is_lost(self, address: NodeAddress) -> bool:
        node = self.state.nodes.get(address)
        return node is None or node.is_lost

    def dead_letters(self, source: str, group: str) -> dict[str, Any]:
        """The dead letters of a group, and the `problems` of publishers that do not answer."""
        answers = self._ask_publishers(source, "dead_letters", group, MOST_DEAD_LETTERS)
        found = [one for answer, _ in answers for one in answer or ()]
        return {"dead_letters": found, "problems": [problem for _, problem in answers if problem]}

    def change_dead_letters(
        self, method: str, source: str, group: str, seqs: list[int], journal: str | None
    ) -> dict[str, Any]:
        """`requeue` or `drop` these dead letters; without `seqs`, all of the group. The result has their number, `count`."""
        answers = self._ask_publishers(source, method, group, seqs or None, journal)
        return {
            "count": sum(int(answer or 0) for answer, _ in answers),
            "problems": [problem for answer, problem in answers if problem],
        }

    def _ask_publishers(self, source: str, method: str, *args: object) -> list[tuple[Any, str]]:
        addresses = self.state.publishers.get(source, [])
        if not addresses:
            raise UnknownService(source, "no publisher of its events is listed")
        return self._ask_all(f"events:{source}", addresses, method, *args)

    def _ask_all(
        self, service: str, addresses: Iterable[NodeAddress], method: str, *args: object
    ) -> list[tuple[Any, str]]:
        """The answer of each publisher or node; or None, and the reason why there is none."""
        pool = Pool(ASKED_AT_ONCE)
        return list(pool.map(lambda address: self._ask(service, address, method, args), sorted(addresses, key=str)))

    def _ask(self, service: str, address: NodeAddress, method: str, args: tuple[object, ...]) -> tuple[Any, str]:
        try:
            with self._connected(service, address) as proxy:
                return getattr(proxy, method)(*args), ""
        except ZmqServicesError as error:
            return None, f"{address.endpoint}: {type(error).__name__}: {error}"


def _listed(seen: discovery.Seen) -> ListedInstance:
    record = seen.record
    return ListedInstance(
        record.service,
        record.instance,
        record.node,
        record.state,
        bool(seen.suspect),
        record.host,
        record.pid,
        node_address(record),
    )


def to_json(value: object) -> bytes:
    """JSON in ASCII, in one line. Values without a JSON type become texts."""
    return json.dumps(value, default=_as_text, separators=(",", ":")).encode()


def _as_text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
