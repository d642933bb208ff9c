"""Which certificates may ask the nodes of a closed cluster, and how the commands of operators reach the nodes."""

import gevent
import pytest
import yaml

from tests.stage import until
from zmqservices.cli.examination import examine
from zmqservices.cli.listing import looked_up
from zmqservices.cli.node_watch import NodeWatch
from zmqservices.cli.nodes import ask_nodes
from zmqservices.cli.options import Flags
from zmqservices.cli.publishers import ask_all, publishers
from zmqservices.dashboard.collector import Collector
from zmqservices.dashboard.picture import Picture
from zmqservices.events import EventDispatcher
from zmqservices.membership import Membership
from zmqservices.observability.node_operators import NodeOperators
from zmqservices.rpc import rpc


class Orders:
    name = "orders"
    dispatch = EventDispatcher()

    @rpc
    def place(self):
        pass


@pytest.fixture
def orders(cluster, start):
    """A service whose node answers operators, as one of `zmqservices run` does."""
    container = start(Orders, cluster.node("orders", serves="orders", publishes="orders"))
    NodeOperators(container.shared_extensions[Membership].join(), [container]).serve()
    return container


@pytest.fixture
def flags(cluster, tmp_path):
    """The command line of somebody with this certificate."""

    def flags(**permissions):
        file = tmp_path / "settings.yaml"
        file.write_text(yaml.safe_dump(cluster.node("operator", **permissions)))
        return Flags(config_file=str(file))

    return flags


def elsewhere(function, *arguments):
    """Run it in a thread, as another process would: the node lives on this one."""
    return gevent.get_hub().threadpool.apply(function, arguments)


def asked(flags, method):
    (answer,) = elsewhere(ask_nodes, flags, "orders", method, 10.0)
    return answer


def test_those_who_administer_nodes_are_answered(orders, flags):
    answer = asked(flags(administers="node:operators"), "stats")

    assert answer.problem == ""
    assert answer.answer["instances"][0]["service"] == "orders"


@pytest.mark.parametrize(
    ("permissions", "method"),
    [({"calls": ("*", "node:operators")}, "info"), ({"administers": ("orders", "node:operators.ping")}, "stats")],
)
def test_all_others_are_told_what_they_lack(orders, flags, permissions, method):
    answer = asked(flags(**permissions), method)

    assert answer.answer is None
    assert answer.problem.startswith("Forbidden: node:operators.")
    assert "is not among that" in answer.problem


def test_a_permission_to_ping_is_no_more_than_that(orders, flags):
    operator = flags(administers="node:operators.ping")

    assert asked(operator, "ping").answer["instances"][0]["service"] == "orders"


def test_publishers_are_asked_over_encrypted_connections(orders, flags):
    operator = flags(administers="orders")

    def ask():
        with publishers(operator, None, 10.0) as found:
            return [answer["source"] for _, answer in ask_all(found, "stats")]

    until(lambda: elsewhere(ask) == ["orders"])


def test_top_shows_numbers_to_those_who_administer_nodes_and_states_to_all(orders, flags):
    def shown(operator):
        settings = operator.resolve()
        with looked_up(settings, 10.0) as directory:
            watch = NodeWatch(directory, settings, 10.0, 10.0)
            try:
                watch.ask(wait=True)
                ((_, (row,)),) = watch.rows()
                return row
            finally:
                watch.close()

    allowed, refused = elsewhere(shown, flags(administers="node:operators")), elsewhere(shown, flags(calls="*"))

    assert (allowed.state, allowed.in_flight, allowed.problem) == ("UP", 0, "")
    assert (refused.state, refused.in_flight) == ("UP", None)
    assert refused.problem.startswith("Forbidden: node:operators.stats is forbidden to")


def test_check_looks_at_certificates_of_this_node_and_of_others(orders, flags):
    def found(operator):
        return list(examine(operator.resolve(), "config.yaml", 10.0))

    own, node = (one for one in elsewhere(found, flags(administers="node:operators")) if one.check == "certificates")
    refused = [one for one in elsewhere(found, flags(calls="*")) if one.check == "nodes"]

    # Those of this test hold for a day.
    assert own.level == node.level == "warning"
    assert "certificate of operator-" in own.text and "certificate of orders-" in node.text
    assert "keys renew orders-" in node.mend
    assert [one.mend for one in refused] == ["run the checks with a certificate that has --administers node:operators"]


# --- the dashboard ---------------------------------------------------------------------------------------------------


@pytest.fixture
def collector(cluster):
    """Start what a dashboard with this certificate collects."""
    started = []

    def start(**permissions):
        collector = Collector(cluster.node("dashboard", **permissions))
        started.append(collector)
        collector.start()
        return collector

    yield start
    for one in started:
        one.stop()


def test_a_dashboard_with_a_certificate_sees_the_cluster(orders, collector):
    collector = collector(administers=("node:operators", "orders"))

    until(lambda: [node for node in collector.state.nodes.values() if node.answer], timeout=30)
    (service,) = Picture(collector.state).to_dict()["services"]
    assert (service["name"], [one["state"] for one in service["instances"]]) == ("orders", ["up"])
    until(lambda: "orders" in collector.state.publishers, timeout=30)
    assert collector.dead_letters("orders", "mails.send:placed") == {"dead_letters": [], "problems": []}


def test_a_dashboard_without_the_permission_says_what_it_lacks(orders, collector):
    collector = collector(calls="*")

    until(lambda: [node for node in collector.state.nodes.values() if node.problem], timeout=30)

    (problem,) = Picture(collector.state).to_dict()["problems"]
    assert problem["services"] == ["orders"]
    assert problem["problem"].startswith("Forbidden: node:operators.")
