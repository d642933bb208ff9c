"""The pytest plugin with the fixtures for services.

Rule 1: loading the plugin imports nothing else of zmqservices and patches nothing. Only tests that use a fixture are affected.
Rule 2: everything that a fixture made ends with the test, whatever state the test left it in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

__all__ = [
    "amqp_uri",
    "cluster_config",
    "container_factory",
    "empty_config",
    "fast_teardown",
    "get_message_from_queue",
    "mock_container",
    "network",
    "predictable_call_ids",
    "pytest_addoption",
    "pytest_load_initial_conftests",
    "rabbit_config",
    "rabbit_manager",
    "rabbit_ssl_config",
    "runner_factory",
    "vhost_pipeline",
    "web_config",
    "web_config_port",
    "web_session",
    "websocket",
]

#: Options of Nameko's plugin that have no effect here, so that test suites that pass them still run.
BROKER_OPTIONS = (
    ("--amqp-uri", "--rabbit-amqp-uri"),
    ("--rabbit-api-uri", "--rabbit-ctl-uri"),
    ("--amqp-ssl-port",),
    ("--amqp-ssl-option",),
)
BROKER_FLAGS = ("--blocking-detection", "--suppress-nameko-eventlet-notification")
NO_BROKER = "there is no broker in these tests: `cluster_config` (or `rabbit_config`) is all that services need"


# --- options ---------------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("zmqservices")
    text = "let `import nameko` mean zmqservices and `import eventlet` gevent, for tests of unchanged Nameko applications"
    group.addoption("--as-nameko", action="store_true", default=False, help=text)
    parser.addini("as_nameko", text, type="bool", default=False)
    if not _real_nameko_is_here():
        for names in BROKER_OPTIONS:
            group.addoption(*names, action="append", help="of Nameko's; means nothing here")
        for name in BROKER_FLAGS:
            group.addoption(name, action="store_true", help="of Nameko's; means nothing here")


def _real_nameko_is_here() -> bool:
    """Whether Nameko's own plugin may be loaded as well. It has some of the same options."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        distribution("nameko")
    except PackageNotFoundError:
        return False
    return True


def pytest_load_initial_conftests(early_config: pytest.Config, parser: pytest.Parser, args: list[str]) -> None:
    # Before any conftest is imported, because a conftest may import nameko.
    if early_config.known_args_namespace.as_nameko or early_config.getini("as_nameko"):
        from zmqservices import compat

        try:
            compat.install(eventlet=True)
        except ImportError as error:
            # Another plugin may have imported nameko already.
            raise pytest.UsageError(str(error)) from None


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.fixture
def empty_config() -> dict[str, Any]:
    """Empty settings, for the test to fill."""
    return {}


@pytest.fixture
def cluster_config() -> Iterator[dict[str, Any]]:
    """Settings with which the services and clients of one test find each other and no others.

    A registry for this test runs in this process, on a loopback port. During the test, `zmqservices.config` has the same
    settings, so that `ServiceRpcProxy("maths")` works as well as `ServiceRpcProxy("maths", cluster_config)`.
    """
    import uuid

    from discovery.server.registry_server import RegistryServer
    from zmqservices import config, constants

    registry = RegistryServer("tcp://127.0.0.1:0")
    registry.start()
    registry.wait_bound(10.0)
    settings = {
        constants.DIRECTORY_CONFIG_KEY: registry.url,
        constants.NAMESPACE_CONFIG_KEY: f"test-{uuid.uuid4().hex[:12]}",
        constants.DIRECTORY_CACHE_CONFIG_KEY: "none",
    }
    try:
        with config.patch(settings):
            yield settings
    finally:
        registry.stop(blocking=True)


@pytest.fixture
def rabbit_config(cluster_config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """`cluster_config` under Nameko's name for it, with an AMQP_URI for tests that pass that on.

    There is no broker. A client or container whose config has an AMQP_URI and no directory finds the services of the test.
    """
    from zmqservices import config, constants

    namespace = cluster_config[constants.NAMESPACE_CONFIG_KEY]
    cluster_config[constants.AMQP_URI_CONFIG_KEY] = f"pyamqp://guest:guest@localhost:5672/{namespace}"
    with config.patch(cluster_config):
        yield cluster_config


@pytest.fixture
def rabbit_ssl_config(rabbit_config: dict[str, Any]) -> dict[str, Any]:
    """The same as `rabbit_config`: nothing is encrypted between the services of a test."""
    return rabbit_config


@pytest.fixture
def amqp_uri(rabbit_config: dict[str, Any]) -> Any:
    """The AMQP_URI of `rabbit_config`. It is valid in settings, but nothing listens there."""
    from zmqservices import constants

    return rabbit_config[constants.AMQP_URI_CONFIG_KEY]


@pytest.fixture
def web_config(empty_config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Settings for a web server on a free loopback port; also in `zmqservices.config` while the test runs."""
    from zmqservices import config, constants
    from zmqservices.testing.utils import find_free_port

    empty_config[constants.WEB_SERVER_CONFIG_KEY] = f"127.0.0.1:{find_free_port()}"
    with config.patch(empty_config):
        yield empty_config


@pytest.fixture
def web_config_port(web_config: dict[str, Any]) -> int:
    """The port of `web_config`."""
    from zmqservices import constants

    return int(web_config[constants.WEB_SERVER_CONFIG_KEY].rpartition(":")[2])


# --- services --------------------------------------------------------------------------------------------------------


def _kill_all(owners: list[Any]) -> None:
    import gevent

    gevent.joinall([gevent.spawn(owner.kill) for owner in owners], raise_error=True)


@pytest.fixture
def container_factory() -> Iterator[Callable[..., Any]]:
    """`container_factory(Maths)` or `container_factory(Maths, cluster_config)`: a container, to be started by the test.

    Killed when the test is over, if it has not been stopped.
    """
    from zmqservices.containers import get_container_cls

    containers: list[Any] = []

    def make(service_cls: type, config: Mapping[str, Any] | None = None) -> Any:
        containers.append(get_container_cls(config)(service_cls, config))
        return containers[-1]

    yield make
    _kill_all(containers)


@pytest.fixture
def runner_factory() -> Iterator[Callable[..., Any]]:
    """`runner_factory(Maths, Words)` or `runner_factory(cluster_config, Maths, Words)`: a runner, to be started by the test.

    Killed when the test is over, if it has not been stopped.
    """
    from zmqservices.runners import ServiceRunner

    runners: list[Any] = []

    def make(*config_and_classes: Any) -> Any:
        config, classes = None, list(config_and_classes)
        if classes and not isinstance(classes[0], type):
            config = classes.pop(0)
        runners.append(ServiceRunner(config))
        for service_cls in classes:
            runners[-1].add_service(service_cls)
        return runners[-1]

    yield make
    _kill_all(runners)


@pytest.fixture
def mock_container(empty_config: dict[str, Any]) -> Any:
    """A mock of a ServiceContainer, for tests of one extension alone."""
    from unittest.mock import create_autospec

    from zmqservices import constants
    from zmqservices.containers import ServiceContainer

    container = create_autospec(ServiceContainer)
    container.config = empty_config
    container.config[constants.SERIALIZER_CONFIG_KEY] = constants.DEFAULT_SERIALIZER
    container.serializer = constants.DEFAULT_SERIALIZER
    container.accept = [constants.DEFAULT_SERIALIZER]
    container.service_name = "service"
    container.shared_extensions = {}
    return container


@pytest.fixture
def predictable_call_ids() -> Iterator[Any]:
    """Call ids end in 0, 1, 2 and so on, in the order in which calls arrive. Yields the mock that makes them."""
    import itertools
    from unittest.mock import patch

    with patch("zmqservices.containers.new_call_id", autospec=True) as new_call_id:
        new_call_id.side_effect = (str(number) for number in itertools.count())
        yield new_call_id


# --- clients of web services -----------------------------------------------------------------------------------------


@pytest.fixture
def web_session(web_config_port: int) -> Iterator[Any]:
    """A `requests.Session` for the service at `web_config`: `web_session.get("/orders/7")`."""
    from zmqservices.testing.web import WebSession

    with WebSession(f"http://127.0.0.1:{web_config_port}/") as session:
        yield session


@pytest.fixture
def websocket(web_config_port: int) -> Iterator[Callable[[], Any]]:
    """`websocket()`: a connection to the service at `web_config`, with `rpc`, `wait_for_event` and `app.close`."""
    import gevent

    from zmqservices.testing.websocket import make_virtual_socket

    apps: list[Any] = []
    threads: list[Any] = []

    def connect() -> Any:
        app, wait_for_socket = make_virtual_socket("127.0.0.1", web_config_port)
        apps.append(app)
        threads.append(gevent.spawn(app.run_forever))
        socket = wait_for_socket()
        socket.app = app
        return socket

    yield connect
    for app in apps:
        app.close()
    gevent.joinall(threads, timeout=1.0)
    gevent.killall(threads)


# --- a network that fails --------------------------------------------------------------------------------------------


@pytest.fixture
def network(cluster_config: dict[str, Any]) -> Iterator[Any]:
    """A `Network` over `cluster_config`: the test can delay, drop, cut and split its wires. See `zmqservices.testing.network`."""
    from zmqservices.testing.network import Network

    with Network(cluster_config) as made:
        yield made


# --- fixtures of Nameko that needed a broker
# --------------------------------------------------------------------------------------------


@pytest.fixture
def fast_teardown() -> None:
    """Does nothing, because teardown is always fast. It exists for test suites that use its name."""


@pytest.fixture
def rabbit_manager() -> None:
    """Fails: there is no broker."""
    pytest.fail(NO_BROKER)


@pytest.fixture
def vhost_pipeline() -> None:
    """Fails: there is no broker."""
    pytest.fail(NO_BROKER)


@pytest.fixture
def get_message_from_queue() -> None:
    """Fails: there are no queues."""
    pytest.fail("there are no queues to read; wait for the handler with `entrypoint_waiter`")
