"""What operators, scripts and tests use, with a certificate: commands, standalone clients, and zmqservices.testing."""

import gevent
import pytest
from click.testing import CliRunner

from tests.events.stage import Notes
from tests.stage import until
from zmqservices.cli.main import cli
from zmqservices.events import EventDispatcher, event_handler
from zmqservices.exceptions import Forbidden
from zmqservices.membership import Membership
from zmqservices.observability.node_operators import NodeOperators
from zmqservices.rpc import RpcProxy, rpc
from zmqservices.standalone.events import event_dispatcher
from zmqservices.standalone.rpc import ClusterRpcProxy
from zmqservices.testing.network import Network
from zmqservices.testing.services import entrypoint_hook, entrypoint_waiter


class Orders:
    name = "orders"
    dispatch = EventDispatcher()

    @rpc
    def place(self, number):
        self.dispatch("placed", number)
        return number


@pytest.fixture
def orders(cluster, start):
    """A service whose node answers operators, as one of `zmqservices run` does."""
    container = start(Orders, cluster.node("orders", serves="orders", publishes="orders"))
    NodeOperators(container.shared_extensions[Membership].join(), [container]).serve()
    return container


@pytest.fixture
def command(cluster, orders):
    """Run a command with a certificate that has these permissions; its exit code, its output and its error."""

    def command(line, **permissions):
        settings = {**cluster.node("operator", **permissions), **PATIENT}
        definitions = [part for key, value in settings.items() for part in ("-d", f"{key}={value}")]
        arguments = [*line.split(), *definitions]
        # In a thread, as another process would: the node lives on this one's hub.
        done = gevent.get_hub().threadpool.apply(CliRunner().invoke, (cli, arguments))
        return done.exit_code, done.output, done.exception

    return command


#: A busy machine has time to find a service and to be answered.
PATIENT = {"rpc_wait_for_service": 30, "rpc_timeout": 60}
OPERATOR = {"administers": ("node:operators", "orders"), "calls": "orders"}


@pytest.mark.parametrize(
    ("line", "shown", "needs"),
    [
        ("call orders.place 7", "7", "calls 'others', and 'orders.place' is not among that"),
        ("ls", "orders", ""),
        ("health orders", "ok", ""),
        ("ping orders", "orders", "node:operators.ping is forbidden to"),
        ("info orders", "orders", "node:operators.info is forbidden to"),
        ("stats orders", "orders", "node:operators.stats is forbidden to"),
        ("top --once", "orders", "node:operators.stats is forbidden to"),
        ("events ls", "", "events:orders.stats is forbidden to"),
        ("check", "operator-", "node:operators.info is forbidden to"),
        ("inspect orders", "place(number)", ""),
    ],
)
def test_commands_work_with_a_certificate_and_say_what_one_lacks(command, line, shown, needs):
    _, output, error = command(line, **OPERATOR)
    assert shown in output and "forbidden" not in output.lower(), (output, error)

    if needs:
        _, output, error = command(line, calls="others")
        assert needs in f"{output} {error}", output


def test_a_script_calls_and_publishes_with_a_certificate(cluster, orders, start):
    notes = Notes()

    class Mails:
        name = "mails"

        @event_handler("shop", "opened")
        def send(self, payload):
            notes.lines.append((payload, None))

    start(Mails, cluster.node("mails", serves="mails", handles="shop"))
    script = {**cluster.node("script", calls="orders", publishes="shop"), **PATIENT}

    with ClusterRpcProxy(script) as remote, event_dispatcher(script) as dispatch:
        assert remote.orders.place(1) == 1
        with pytest.raises(Forbidden, match="administers nothing"):
            remote["events:orders"].stats()
        dispatch("shop", "opened", 5)
        until(lambda: (5, None) in notes.lines, 60)


class Shop:
    name = "shop"
    orders = RpcProxy("orders")

    @rpc
    def buy(self, number):
        return self.orders.place(number)


def test_what_tests_use_works_with_a_certificate(cluster, start):
    """Services on hosts of their own, hooks and waiters: `zmqservices.testing` needs nothing but the settings."""
    with Network(cluster.settings(**PATIENT)) as network:
        start(Orders, network.host("orders", **_security(cluster, serves="orders", publishes="orders")))
        shop = start(Shop, network.host("shop", **_security(cluster, serves="shop", calls="orders")))
        with entrypoint_hook(shop, "buy") as buy, entrypoint_waiter(shop, "buy"):
            assert buy(3) == 3


def _security(cluster, **permissions):
    return {"SECURITY": str(cluster.keys("node", **permissions))}


def test_a_command_with_a_folder_that_is_none_says_so(cluster, tmp_path):
    done = CliRunner().invoke(cli, ["ls", "-d", f"SECURITY={tmp_path}", "--directory", cluster.registry.url])

    assert done.exit_code != 0
    assert "node.key does not exist; `zmqservices keys issue NAME` makes a node's folder" in f"{done.output} {done.exception}"
