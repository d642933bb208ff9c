"""What the map shows at one moment, as plain values: services with their instances, calls, events.

Rule 1: pure. Rates cover the last `counts.SPAN` seconds.
Rule 2: a call or event that was seen once stays on the map, with a rate of 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from zmqservices.cluster.operators import NODE
from zmqservices.dashboard.cluster_state import MALFORMED, ClusterState, InstanceState, NodeState
from zmqservices.dashboard.counts import SPAN, Counted, Flow, Key, shortened
from zmqservices.dashboard.timeline import PUBLISHERS, finite

#: Stands for callers outside of all services: HTTP clients, scripts, other clusters.
CLIENTS = "(clients)"
#: The name under which standalone clients call.
STANDALONE = "standalone_rpc_proxy"
#: Nodes are asked at different moments, so their counts may differ: by this part of a service's calls, and by so many per second.
SLACK_SHARE, SLACK_RATE = 0.3, 0.5
#: Calls of unknown callers are shown once so many pictures in a row have them.
LEAST_PICTURES = 5

#: The counts of a group that are shown as rates, and their names in the picture.
RATES = {"acked": "rate", "failed": "errors"}


class Picture:
    """A picture of the state at one moment; `to_dict` returns what the page gets."""

    def __init__(self, state: ClusterState) -> None:
        self._state = state
        self._nodes = [node for node in state.nodes.values() if is_answering(node)]
        self._recent: list[tuple[NodeState, float, dict[Key, Counted]]] = [
            (node, node.window.seconds, node.window.recent()) for node in self._nodes
        ]

    def to_dict(self) -> dict[str, Any]:
        """`services`, `calls` and `events`; docs/observability.rst says what they show."""
        by_instance, by_service, rpc_rates = self._worked()
        handlers = self._handlers()
        calls = self._calls(rpc_rates)
        events = self._events(handlers)
        services = self._services(by_instance, by_service)
        known = {one["name"] for one in services}
        for name, kind in self._others(calls, events):
            if name not in known:
                known.add(name)
                services.append({"name": name, "kind": kind, "instances": [], "dispatched": 0.0, **Flow().to_dict()})
        dispatched = self._dispatched()
        for service in services:
            service["dispatched"] = round(dispatched.get(service["name"], 0.0), 3)
        return {
            "services": sorted(services, key=lambda one: one["name"]),
            "calls": calls,
            "events": events,
            "problems": self._problems(),
            "left_out": self._state.left_out,
        }

    # --- what workers did ------------------------------------------------------------------------------------------------

    def _worked(self) -> tuple[dict[str, Flow], dict[str, Flow], dict[str, float]]:
        by_instance: dict[str, Flow] = {}
        by_service: dict[str, Flow] = {}
        rpc_rates: dict[str, float] = {}
        for _, seconds, recent in self._recent:
            for key, one in recent.items():
                if key[0] == "method":
                    by_instance.setdefault(key[2], Flow()).add(one, seconds)
                    by_service.setdefault(key[1], Flow()).add(one, seconds)
                    if key[3] == "rpc":
                        rpc_rates[key[1]] = rpc_rates.get(key[1], 0.0) + one.count / seconds
        return by_instance, by_service, rpc_rates

    def _services(self, by_instance: Mapping[str, Flow], by_service: Mapping[str, Flow]) -> list[dict[str, Any]]:
        sizes = {
            str(one["instance"]): one for node in self._nodes if node.answer for one in node.answer["instances"]
        }
        ejected = self._ejected()
        services: dict[str, dict[str, Any]] = {}
        for key, state in sorted(self._state.instances.items()):
            name = state.listed.service
            flow = by_service.get(name) or Flow()
            service = services.setdefault(name, {"name": name, "kind": "service", "instances": [], **flow.to_dict()})
            instance_flow = by_instance.get(key) or Flow()
            size = sizes.get(key, {})
            service["instances"].append({
                "id": key,
                "state": self._condition(state, ejected.get(key, [])),
                "where": f"{state.listed.host}:{state.listed.pid}",
                "running": int(size.get("running", 0)),
                "queued": int(size.get("queued", 0)),
                "workers": int(size.get("max_workers", 0)),
                **({"ejected_by": ejected[key]} if key in ejected else {}),
                **({"oldest": max(finite(one["seconds"]) for one in size["longest"])} if size.get("longest") else {}),
                **instance_flow.to_dict(),
            })  # fmt: skip
        return list(services.values())

    def _condition(self, state: InstanceState, ejected_by: list[str]) -> str:
        listed = state.listed
        node = self._state.nodes.get(listed.address) if listed.address is not None else None
        if state.gone_at is not None:
            return "left" if state.was_draining else "lost"
        if node is not None and node.is_lost and not state.was_draining:
            return "lost"
        if listed.is_suspect or (node is not None and node.is_suspect):
            return "suspect"
        if listed.state != "UP":
            return listed.state.lower()
        if ejected_by:
            return "ejected"
        return "silent" if node is not None and node.problem else "up"

    def _ejected(self) -> dict[str, list[str]]:
        """By instance: the services that do not call it for a while, since its answers were errors or late."""
        found: dict[str, set[str]] = {}
        for node in self._nodes:
            for callee in (node.answer or {}).get("callees", ()):
                for one in callee["instances"]:
                    if one["condition"] == "ejected":
                        found.setdefault(str(one["instance"]), set()).update(self._names_at(node))
        return {key: sorted(names) for key, names in found.items()}

    def _names_at(self, node: NodeState) -> list[str]:
        return sorted({one.service for one in self._state.instances_at(node.address)})

    # --- calls -----------------------------------------------------------------------------------------------------------

    def _calls(self, rpc_rates: Mapping[str, float]) -> list[dict[str, Any]]:
        flows: dict[tuple[str, str, str], Flow] = {edge: Flow() for edge in self._state.edges}
        for node in self._state.nodes.values():
            for key in node.window.total():
                edge = self._edge(node, key)
                if edge is not None:
                    flows.setdefault(edge, Flow())
        for node, seconds, recent in self._recent:
            for key, one in recent.items():
                edge = self._edge(node, key)
                if edge is not None:
                    # The errors of a route are those of the server (500 and above), not mistakes of clients.
                    failed = (one.count if key[4] >= "500" else 0) if key[0] == "http" else None
                    flows[edge].add(one, seconds, failed)
        called: dict[str, float] = {}
        for (_, callee, kind), flow in flows.items():
            if kind == "rpc":
                called[callee] = called.get(callee, 0.0) + flow.rate
        for service, missing in self._unaccounted(rpc_rates, called).items():
            flows.setdefault((CLIENTS, service, "rpc"), Flow()).rate += missing
        self._state.edges = self._shown(flows)
        told = [{"from": edge[0], "to": edge[1], "kind": edge[2], **flows[edge].to_dict()} for edge in self._state.edges]
        return sorted(told, key=lambda one: (one["from"], one["to"], one["kind"]))

    def _unaccounted(self, rpc_rates: Mapping[str, float], called: Mapping[str, float]) -> dict[str, float]:
        """By service: the calls per second that no node of the cluster has made. Known only while all nodes answer."""
        seconds = [node.window.seconds for node in self._state.nodes.values() if is_answering(node)]
        if len(seconds) < len(self._state.nodes) or min(seconds, default=0.0) < SPAN / 2:
            self._state.unaccounted.clear()
            return {}
        missing = {service: rate - called.get(service, 0.0) for service, rate in rpc_rates.items()}
        missing = {name: rate for name, rate in missing.items() if rate > SLACK_RATE + SLACK_SHARE * rpc_rates[name]}
        self._state.unaccounted = {name: self._state.unaccounted.get(name, 0) + 1 for name in missing}
        return {name: rate for name, rate in missing.items() if self._state.unaccounted[name] >= LEAST_PICTURES}

    def _shown(self, edges: Iterable[tuple[str, str, str]]) -> set[tuple[str, str, str]]:
        """The edges with an end that has instances, now or a moment ago."""
        names = {state.listed.service for state in self._state.instances.values()}
        return {edge for edge in edges if (edge[0] in names or edge[0] == CLIENTS) and (edge[1] in names or edge[0] != CLIENTS)}

    def _edge(self, node: NodeState, key: Key) -> tuple[str, str, str] | None:
        if key[0] == "http":
            return CLIENTS, key[1], "http"
        if key[0] != "call" or key[2].startswith(PUBLISHERS) or key[2] == NODE:
            return None
        caller = key[1]
        if not caller:
            names = self._names_at(node)
            caller = names[0] if len(names) == 1 else CLIENTS
        return (CLIENTS if caller == STANDALONE else caller), key[2], "rpc"

    # --- events ----------------------------------------------------------------------------------------------------------

    def _events(self, handlers: Mapping[tuple[str, str], tuple[str, set[str]]]) -> list[dict[str, Any]]:
        groups: dict[tuple[str, str], dict[str, Any]] = {}
        for (source, group), (service, types) in handlers.items():
            groups[source, group] = _no_events(source, group, service, types)
        for row in self._rows_of_groups():
            source, group = str(row["source"]), str(row["group"])
            one = groups.setdefault((source, group), _no_events(source, group, group, set()))
            for name in ("waiting", "in_flight", "dead_letters"):
                one[name] += int(row[name] or 0)
            one["members"] = max(one["members"], int(row["members"]))
            if row["oldest_age"] is not None:
                one["oldest_age"] = max(one["oldest_age"] or 0.0, finite(row["oldest_age"]))
        for _, seconds, recent in self._recent:
            for key, counted in recent.items():
                if key[0] in RATES and (key[1], key[2]) in groups:
                    groups[key[1], key[2]][RATES[key[0]]] += counted.count / seconds
        durations = self._handling()
        for key, one in groups.items():
            one["p99"] = shortened(durations[key].counted.quantile(0.99)) if key in durations else None
            one["rate"], one["errors"] = round(one["rate"], 3), round(one["errors"], 3)
            one["types"] = sorted(one["types"])
        return [groups[key] for key in sorted(groups)]

    def _rows_of_groups(self) -> Iterator[Mapping[str, Any]]:
        """The groups of each journal. A node that does not answer has them on its disk, as it last told them."""
        told: set[tuple[str, str, str]] = set()
        for node in sorted(self._state.nodes.values(), key=lambda one: not is_answering(one)):
            for row in node.answer["groups"] if node.answer else ():
                # Another process may have taken over the journal of one that was lost.
                key = (str(row["source"]), str(row["group"]), str(row["journal"]))
                if key not in told:
                    told.add(key)
                    yield row if is_answering(node) else {**row, "in_flight": 0, "members": 0}

    def _handling(self) -> dict[tuple[str, str], Flow]:
        """The durations of handlers, by source and group."""
        flows: dict[tuple[str, str], Flow] = {}
        for _, seconds, recent in self._recent:
            for key, one in recent.items():
                if key[0] == "method" and key[5]:
                    flows.setdefault((key[5].partition(":")[0], key[6]), Flow()).add(one, seconds)
        return flows

    def _handlers(self) -> dict[tuple[str, str], tuple[str, set[str]]]:
        """The service and the types of events of each source and group."""
        found: dict[tuple[str, str], tuple[str, set[str]]] = {}
        names = {state.listed.service for state in self._state.instances.values()}
        found |= {key: value for key, value in self._state.groups.items() if value[0] in names}
        for node in self._state.nodes.values():
            for instance in (node.info or {}).get("instances", ()):
                for one in instance["entrypoints"]:
                    if one.get("source") and one.get("group"):
                        key = (str(one["source"]), str(one["group"]))
                        found.setdefault(key, (str(instance["service"]), set()))[1].add(str(one.get("type", "")))
        self._state.groups = found
        return found

    def _dispatched(self) -> dict[str, float]:
        """Dispatched events per second, by source."""
        rates: dict[str, float] = {}
        for _, seconds, recent in self._recent:
            for key, one in recent.items():
                if key[0] == "dispatched":
                    rates[key[1]] = rates.get(key[1], 0.0) + one.count / seconds
        return rates

    # --- the rest --------------------------------------------------------------------------------------------------------

    @staticmethod
    def _others(calls: list[dict[str, Any]], events: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
        """The ends of edges that are not services with instances, and their kinds."""
        for call in calls:
            for name in (call["from"], call["to"]):
                yield name, "clients" if name == CLIENTS else "absent"
        for event in events:
            yield event["source"], "source"
            yield event["to"], "absent"

    def _problems(self) -> list[dict[str, Any]]:
        """Nodes that are connected and do not answer, with the reason."""
        return [
            {"address": node.address.endpoint, "services": self._names_at(node), "problem": node.problem}
            for node in self._state.nodes.values()
            if node.problem and not node.is_lost
        ]


def picture_of(state: ClusterState) -> dict[str, Any]:
    """See `Picture.to_dict`. A node whose answer has another form, as that of another version may have, is a problem in it."""
    try:
        return Picture(state).to_dict()
    except MALFORMED:
        for node in state.nodes.values():
            alone = ClusterState(0.0)
            alone.nodes[node.address], alone.instances = node, state.instances
            try:
                Picture(alone).to_dict()
            except MALFORMED as error:
                state.distrust(node, error)
        return Picture(state).to_dict()


def _no_events(source: str, group: str, service: str, types: set[str]) -> dict[str, Any]:
    return {
        "source": source, "group": group, "to": service, "types": types, "rate": 0.0, "errors": 0.0, "waiting": 0,
        "in_flight": 0, "dead_letters": 0, "members": 0, "oldest_age": None,
    }  # fmt: skip


def is_answering(node: NodeState) -> bool:
    """Whether the counts of the node are up to date."""
    return node.answer is not None and not node.is_lost and not node.problem
