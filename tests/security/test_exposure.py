"""Without keys a process listens only on loopback, unless INSECURE says that the network is trusted."""

import logging
from contextlib import closing

import gevent
import gevent.socket
import pytest

import discovery
from discovery.cli import cli
from discovery.exceptions import DirectoryConfigurationError
from discovery.security import exposure
from discovery.server.registry_server import RegistryServer
from tests.ports import free_port
from zmqservices import configuration
from zmqservices.cluster.node import Node
from zmqservices.cluster.node_addresses import NodeAddresses
from zmqservices.cluster.settings import Settings
from zmqservices.exceptions import ConfigurationError
from zmqservices.observability import binding
from zmqservices.rpc import rpc
from zmqservices.web.handlers import http

BEYOND = ("10.0.0.5", "0.0.0.0", "*", "::", "[::]", "fd00::5", "[fe80::1%eth0]", "::ffff:10.0.0.5", "192.0.2.1")
WITHIN = ("127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost", "::ffff:127.0.0.1")
BOTH_WAYS_OUT = r"make keys with `zmqservices keys init` .* set INSECURE: true \(ZMQSERVICES_INSECURE=true, --insecure\)"
NOWHERE = {"DIRECTORY": "static:other=tcp://127.0.0.1:1", "DIRECTORY_CACHE": "none"}


class Maths:
    name = "maths"

    @rpc
    def add(self, a, b):
        return a + b


@pytest.mark.parametrize("host", BEYOND)
def test_beyond_loopback_a_socket_needs_keys_or_somebody_s_word(host):
    address = f"tcp://{host}:1"

    assert "a registry would listen at tcp://" in exposure.objection(host, "a registry", address, False, False)
    assert exposure.objection(host, "a registry", address, True, False) is None
    assert exposure.objection(host, "a registry", address, False, True) is None
    assert "without encryption, as INSECURE says" in exposure.warning(host, "a registry", address, False)
    assert exposure.warning(host, "a registry", address, True) is None


@pytest.mark.parametrize("host", WITHIN)
def test_on_loopback_it_needs_neither(host):
    assert exposure.objection(host, "a registry", f"tcp://{host}:1", False, False) is None
    assert exposure.warning(host, "a registry", f"tcp://{host}:1", False) is None


# --- services ----------------------------------------------------------------------------------------------


def addresses(servers=(), **settings):
    return NodeAddresses(Settings.read({**NOWHERE, **settings}), discovery.Capabilities(servers=servers))


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ({"BIND_ADDRESS": "tcp://0.0.0.0:4000"}, "tcp://0.0.0.0:4000"),
        ({"BIND_ADDRESS": "tcp://*:0"}, "tcp://*:0"),
        ({"EVENTS_BIND_ADDRESS": "tcp://192.0.2.1:4001"}, "tcp://192.0.2.1:4001"),
    ],
)
def test_a_service_that_would_be_open_to_others_is_refused(settings, address, caplog):
    with pytest.raises(ConfigurationError, match=BOTH_WAYS_OUT) as caught:
        addresses(**settings).to_bind()
    assert f"this process would listen at {address}, beyond this host" in str(caught.value)

    trusting = addresses(**settings, INSECURE=True)
    trusting.to_bind()
    trusting.to_bind_broadcasts()

    [line] = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert line == (
        f"this process listens at {address} without encryption, as INSECURE says: every peer that reaches it may do everything"
    )


def test_so_is_one_whose_directory_is_on_another_host(monkeypatch):
    from zmqservices.transport import addresses as transport_addresses

    monkeypatch.setattr(transport_addresses, "towards", lambda servers: "10.0.0.5")

    with pytest.raises(ConfigurationError, match="would listen at tcp://10.0.0.5:0, beyond this host"):
        addresses((("10.0.0.9", 4190),)).to_bind()
    assert addresses((("10.0.0.9", 4190),), INSECURE=True).to_bind() == "tcp://10.0.0.5:0"


def test_with_keys_it_may(cluster):
    settings = {**cluster.node(serves="maths"), "BIND_ADDRESS": "tcp://0.0.0.0:0"}

    assert NodeAddresses(Settings.read(settings), discovery.Capabilities()).to_bind() == "tcp://0.0.0.0:0"


def test_a_container_that_is_refused_does_not_start_and_one_of_a_trusting_user_answers(start):
    settings = {**NOWHERE, "BIND_ADDRESS": "tcp://0.0.0.0:0", "ADVERTISE_ADDRESS": "tcp://127.0.0.1:0"}

    with pytest.raises(ConfigurationError, match="beyond this host"):
        start(Maths, settings)
    start(Maths, {**settings, "INSECURE": True})


@pytest.mark.parametrize("is_closed", [True, False], ids=["SECURITY", "open"])
def test_http_and_metrics_listen_where_they_are_told_with_keys_or_without(cluster, start, is_closed):
    class Site:
        name = "site"

        @http("GET", "/")
        def index(self, request):
            return "here"

    port = free_port()
    settings = cluster.node("site", serves="site") if is_closed else NOWHERE
    start(Site, {**settings, "WEB_SERVER_ADDRESS": f"0.0.0.0:{port}"})

    with gevent.Timeout(30), closing(gevent.socket.create_connection(("127.0.0.1", port))) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.endswith(b"here")
    with closing(binding.bind("0.0.0.0:0")) as metrics:
        assert metrics.getsockname()[0] == "0.0.0.0"


def test_an_address_that_a_host_got_later_is_not_listened_at_either():
    node = Node.join(Settings.read(NOWHERE))
    try:
        with pytest.raises(ConfigurationError, match="would listen at tcp://10.0.0.5:0, beyond this host"):
            node.listen_at("10.0.0.5")
    finally:
        node.leave()


# --- registries --------------------------------------------------------------------------------------------


def test_a_registry_that_would_be_open_to_others_is_refused(caplog):
    with pytest.raises(DirectoryConfigurationError, match=BOTH_WAYS_OUT):
        RegistryServer("tcp://0.0.0.0:0")

    registry = RegistryServer("tcp://0.0.0.0:0", insecure=True)
    registry.start()
    registry.wait_bound(10)
    registry.stop(10, blocking=True)

    assert [line for line in caplog.messages if "this registry listens at tcp://0.0.0.0:0 without encryption" in line]


def test_with_keys_a_registry_may(cluster):
    from discovery.security.keys import Keys

    RegistryServer("tcp://0.0.0.0:0", keys=Keys.read(cluster.folder / "registry"))


def test_the_command_says_it_in_a_sentence():
    from click.testing import CliRunner

    done = CliRunner().invoke(cli, ["serve", "--bind", "tcp://[::]:0"], env={"ZMQSERVICES_INSECURE": ""})

    assert done.exit_code == 1
    assert done.output.startswith("Error: this registry would listen at tcp://[::]:0, beyond this host")


# --- where the word comes from -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said", "expected"),
    [
        ({}, "", False), ({}, "true", True), ({}, "1", True), ({}, "YES", True), ({}, "off", False), ({}, "0", False),
        ({"INSECURE": False}, "true", False), ({"INSECURE": True}, "false", True), ({"INSECURE": None}, "true", True),
    ],
)  # fmt: skip
def test_the_setting_outdoes_the_environment(settings, said, expected):
    assert configuration.insecure(settings, {"ZMQSERVICES_INSECURE": said}) is expected
    assert configuration.resolve(settings, {}, {"ZMQSERVICES_INSECURE": said}).get("INSECURE", False) is expected


def test_something_else_is_quoted():
    with pytest.raises(ConfigurationError, match="ZMQSERVICES_INSECURE is 'maybe'; true or false is needed"):
        configuration.insecure({}, {"ZMQSERVICES_INSECURE": "maybe"})
    with pytest.raises(ConfigurationError, match="INSECURE is 'yes'; true or false is needed"):
        configuration.insecure({"INSECURE": "yes"}, {})
