"""The state of a cluster: what the directory lists, and what the nodes answered.

Rule 1: pure; no sockets, no greenlets, no clock: `now` (seconds since 1970) is always an argument.
Rule 2: the counts of a node are used only while the node answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from zmqservices.dashboard.counts import Window
from zmqservices.dashboard.timeline import PUBLISHERS, ClusterTimeline, finite
from zmqservices.observability.node_address import NodeAddress

#: Errors that an answer of another form raises.
MALFORMED = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError)
#: Seconds for which a removed instance stays on the map.
GONE_FOR = 30.0
#: The most instances that are shown, and nodes that are asked: a peer may announce any number of records.
MOST_INSTANCES, MOST_NODES = 1000, 1000
#: Clocks that differ by fewer seconds are taken for equal, since an answer takes time.
CLOCK_TOLERANCE = 1.0


class ListedInstance(NamedTuple):
    """One instance as the directory lists it. `state` is STARTING, UP or DRAINING."""

    service: str
    instance: str
    node: str
    state: str
    is_suspect: bool
    host: str
    pid: int
    #: The address at which its node answers operators; None if it has none.
    address: NodeAddress | None


@dataclass
class NodeState:
    """A process of the cluster."""

    address: NodeAddress
    node: str = ""
    answer: dict[str, Any] | None = None
    info: dict[str, Any] | None = None
    window: Window = field(default_factory=Window)
    #: Added to a time of the node, it gives a time of this process.
    offset: float = 0.0
    answered_at: float | None = None
    #: Why the node did not answer the last question; empty if it did.
    problem: str = ""
    is_lost: bool = False
    #: The node is connected, but silent.
    is_suspect: bool = False


@dataclass
class InstanceState:
    """One instance, and when the directory ceased to list it."""

    listed: ListedInstance
    gone_at: float | None = None
    was_draining: bool = False
    #: Its connection broke, and the timeline has an entry for that.
    was_lost: bool = False


class ClusterState:
    """Takes what the directory and the nodes say; has `instances`, `nodes`, `publishers` and `timeline`."""

    def __init__(self, now: float) -> None:
        self.instances: dict[str, InstanceState] = {}
        self.nodes: dict[NodeAddress, NodeState] = {}
        #: By source: the addresses of its publishers, which have its dead letters.
        self.publishers: dict[str, list[NodeAddress]] = {}
        self.timeline = ClusterTimeline(now)
        #: Calls that were seen (caller, service, kind), and consumer groups (source, group) with their service and event types.
        #: They stay on the map as long as both ends do, so that the map keeps its form when a process ends.
        self.edges: set[tuple[str, str, str]] = set()
        self.groups: dict[tuple[str, str], tuple[str, set[str]]] = {}
        #: By service: how many pictures in a row showed calls that no node of the cluster had made.
        self.unaccounted: dict[str, int] = {}
        self._is_first_view = True
        #: The number of listed instances that are not shown.
        self.left_out = 0

    # --- the directory ---------------------------------------------------------------------------------------------------

    def listed(self, instances: Iterable[ListedInstance], now: float, is_complete: bool = True) -> None:
        """The directory lists these instances now. Those in the first complete list are not told as new."""
        found = {one.instance: one for one in instances}
        self.publishers = {}
        for one in found.values():
            if one.service.startswith(PUBLISHERS) and one.address is not None:
                self.publishers.setdefault(one.service.removeprefix(PUBLISHERS), []).append(one.address)
        services = self._shown({key: one for key, one in found.items() if not one.service.startswith(PUBLISHERS)})
        for one in services.values():
            self._list(one, now)
        for key, state in list(self.instances.items()):
            if key not in services and state.gone_at is None:
                self._unlist(state, now)
        self._is_first_view = self._is_first_view and not is_complete
        wanted = {one.address for one in services.values() if one.address is not None}
        for address in self.nodes.keys() - wanted:
            self.timeline.forget(self.nodes.pop(address).node)
        for address in islice(wanted - self.nodes.keys(), max(0, MOST_NODES - len(self.nodes))):
            self.nodes[address] = NodeState(address)

    def _shown(self, services: dict[str, ListedInstance]) -> dict[str, ListedInstance]:
        """The instances to show: all of them, or those that were shown before and as many others as there is room for."""
        self.left_out = max(0, len(services) - MOST_INSTANCES)
        if not self.left_out:
            return services
        ordered = sorted(services.items(), key=lambda item: (item[0] not in self.instances, item[1].service, item[0]))
        return dict(ordered[:MOST_INSTANCES])

    def _list(self, one: ListedInstance, now: float) -> None:
        state = self.instances.get(one.instance)
        if state is None:
            self.instances[one.instance] = state = InstanceState(one)
            if not self._is_first_view:
                self.timeline.see(now, "joined", one.service, one.instance, where(one))
        elif state.gone_at is not None:
            state.gone_at, state.was_lost = None, False
            self.timeline.see(now, "back", one.service, one.instance, where(one))
        if one.state == "DRAINING" and not state.was_draining:
            state.was_draining = True
            self.timeline.see(now, "draining", one.service, one.instance, where(one))
        state.listed = one

    def _unlist(self, state: InstanceState, now: float) -> None:
        state.gone_at = now
        one = state.listed
        if state.was_draining:
            self.timeline.see(now, "left", one.service, one.instance, where(one))
        elif not state.was_lost:
            self.timeline.see(now, "lost", one.service, one.instance, f"{where(one)}; it ended without a drain")

    def expire(self, now: float) -> None:
        """Forget instances that were removed GONE_FOR seconds ago."""
        for key, state in list(self.instances.items()):
            if state.gone_at is not None and now - state.gone_at > GONE_FOR:
                del self.instances[key]

    # --- the nodes -------------------------------------------------------------------------------------------------------

    def answered(self, address: NodeAddress, answer: dict[str, Any], now: float) -> None:
        """A node answered `stats`. Raises KeyError, TypeError, ValueError or AttributeError for an answer of another form."""
        node = self.nodes.get(address)
        if node is None:
            return
        behind = now - finite(answer["at"])
        node.window.take(answer)
        node.offset = behind if abs(behind) > CLOCK_TOLERANCE else 0.0
        name = str(answer["node"])
        if name != node.node:
            self.timeline.forget(node.node)  # Another process has the address now.
            node.node = name
        self.timeline.take(node.node, answer["timeline"], node.offset, self._services_of_nodes())
        node.answer, node.answered_at, node.problem, node.is_suspect = answer, now, "", False
        if node.is_lost:
            node.is_lost = False
            for one in self.instances_at(address):
                self.instances[one.instance].was_lost = False
                self.timeline.see(now, "back", one.service, one.instance, where(one))

    def described(self, address: NodeAddress, info: dict[str, Any]) -> None:
        """A node answered `info`."""
        node = self.nodes.get(address)
        if node is not None:
            node.info = info

    def failed(self, address: NodeAddress, problem: str) -> None:
        """A node did not answer, but its connection did not break."""
        node = self.nodes.get(address)
        if node is not None:
            node.problem = problem

    def distrust(self, node: NodeState, error: Exception) -> None:
        """What the node has answered has another form, which shows only in the picture. Forget it."""
        node.answer = node.info = None
        node.problem = unknown_form(error)

    def lost(self, endpoint: str, now: float) -> None:
        """The connection to a node broke. One that never answered but with errors is not lost: no answer would bring it back."""
        for address, node in self.nodes.items():
            may_be_lost = node.answered_at is not None or not node.problem
            if address.endpoint == endpoint and not node.is_lost and may_be_lost:
                node.is_lost = True
                for one in self.instances_at(address):
                    self.timeline.lose(one.node, now)
                    state = self.instances[one.instance]
                    state.was_lost = not state.was_draining
                    if state.was_lost:
                        self.timeline.see(now, "lost", one.service, one.instance, f"{where(one)}; its connection broke")

    def suspected(self, endpoint: str) -> None:
        """A node was silent for too long."""
        for address, node in self.nodes.items():
            if address.endpoint == endpoint:
                node.is_suspect = True

    def instances_at(self, address: NodeAddress) -> list[ListedInstance]:
        """The listed instances of one node."""
        return [
            state.listed
            for state in self.instances.values()
            if state.gone_at is None and state.listed.address == address
        ]

    def addresses_of(self, service: str, instance: str | None) -> set[NodeAddress]:
        """The nodes that say that they run the service or instance: its record may lack the address for operators."""
        return {
            address
            for address, node in self.nodes.items()
            if node.answer is not None and not node.is_lost
            for one in node.answer["instances"]
            if one["service"] == service and instance in (None, one["instance"])
        }

    def last_number(self, address: NodeAddress) -> int:
        """The number of the last entry of the node's timeline that this state has."""
        node = self.nodes.get(address)
        return 0 if node is None else self.timeline.taken.get(node.node, 0)

    def _services_of_nodes(self) -> Mapping[str, str]:
        names: dict[str, str] = {}
        for state in self.instances.values():
            names.setdefault(state.listed.node, state.listed.service)
        return names


def unknown_form(error: Exception) -> str:
    """The problem of a node whose answer raised this error."""
    return f"the answer has an unknown form: {type(error).__name__}: {error}"


def where(one: ListedInstance) -> str:
    """The host and process of an instance."""
    return f"process {one.pid} on {one.host}" if one.pid else one.host
