"""Every public name of Nameko imports from zmqservices and can be called as there, or says what to use instead.

The sections are those of Nameko's inventory: entrypoints, providers, extensions, containers, calls, standalone clients,
exceptions, the web, messaging, constants, the command line, the testing kit, utilities, and what Nameko 3 added.
A call in the tables is one that an application makes; it must fit the signature here.
"""

import importlib
import importlib.util
import inspect

import click
import pytest


def function(self, *args, **kwargs):
    """Something to decorate."""


# module: {name: calls}. A name with a dot is a class's attribute; its calls are those of an instance, without `self`.
NAMES = {
    # 1.1 entrypoints; the decorators are called for real below
    "rpc": {
        "Rpc": ["()", "(expected_exceptions=ValueError, sensitive_arguments='a')"],
        "Rpc.decorator": [],
        # 1.2 and 1.5
        "RpcProxy": ["('maths')", "(target_service='maths')", "('maths', delivery_mode=1)"],
        "ServiceProxy": [],
        "MethodProxy": [],
        "MethodProxy.__call__": ["(1, b=2)"],
        "MethodProxy.call_async": ["(1, b=2)"],
        "RpcReply": [],
        "RpcReply.result": ["()"],
        # 1.14
        "ServiceRpc": ["('maths')"],
        "ClusterRpc": ["()"],
        "Client": [],
        "RpcCall": [],
        "RpcCall.result": ["()"],
        "RpcCall.get_response": ["()"],
    },
    "events": {
        "EventHandler": ["('source', 'type')"],
        "EventHandler.broadcast_identifier": [],
        "SERVICE_POOL": [],
        "SINGLETON": [],
        "BROADCAST": [],
        "EventDispatcher": ["()", "(delivery_mode=1)"],
        "EventHandlerConfigurationError": ["('text')"],
    },
    "timer": {"Timer": ["(1)", "(interval=1, eager=True)"]},
    "web.handlers": {
        "HttpRequestHandler": ["('GET', '/')", "('GET', '/', expected_exceptions=ValueError)"],
        "HttpRequestHandler.get_url_rule": ["()"],
        "HttpRequestHandler.get_entrypoint_parameters": ["('request')"],
        "HttpRequestHandler.handle_request": ["('request')"],
        "HttpRequestHandler.response_from_result": ["('result')"],
        "HttpRequestHandler.response_from_exception": ["('exc')"],
    },
    # 1.8
    "web.server": {
        "WebServer": ["()"],
        "WebServer.get_wsgi_app": ["()"],
        "WebServer.get_wsgi_server": ["('sock', 'app')"],
        "WebServer.bind_addr": [],
        "WebServer.context_data_from_headers": ["('request')"],
        "WsgiApp": [],
        "parse_address": ["('127.0.0.1:8000')"],
        "BindAddress": ["('127.0.0.1', 8000)", "(address='127.0.0.1', port=8000)"],
        "HttpOnlyProtocol": [],
    },
    "web.websocket": {
        "WebSocketRpc": ["()"],
        "rpc": [],
        "WebSocketHubProvider": ["()"],
        "WebSocketServer": ["()"],
        "WebSocketHub": [],
        "WebSocketHub.subscribe": ["('id', 'channel')"],
        "WebSocketHub.unsubscribe": ["('id', 'channel')"],
        "WebSocketHub.get_subscriptions": ["('id')"],
        "WebSocketHub.broadcast": ["('channel', 'event', 'data')"],
        "WebSocketHub.unicast": ["('id', 'event', 'data')"],
        "Connection": [],
        "SocketInfo": [],
    },
    # 1.2
    "dependency_providers": {"Config": ["()"]},
    "contextdata": {
        "ContextDataProvider": ["()"],
        "ContextDataProvider.context_key": [],
        "Language": ["()"],
        "UserId": ["()"],
        "UserAgent": ["()"],
        "AuthToken": ["()"],
    },
    # 1.3
    "extensions": {
        "Extension": ["()", "(1, a=2)"],
        **{f"Extension.{name}": ["()"] for name in ("setup", "start", "stop", "kill", "is_bound")},
        "Extension.bind": ["('container')"],
        "Extension.container": [],
        "SharedExtension": ["()"],
        "SharedExtension.sharing_key": [],
        "DependencyProvider": ["()"],
        "DependencyProvider.attr_name": [],
        "DependencyProvider.bind": ["('container', 'name')"],
        "DependencyProvider.get_dependency": ["('ctx')"],
        "DependencyProvider.worker_setup": ["('ctx')"],
        "DependencyProvider.worker_result": ["('ctx')", "('ctx', result=1, exc_info=None)"],
        "DependencyProvider.worker_teardown": ["('ctx')"],
        "ProviderCollector": [],
        "ProviderCollector.register_provider": ["('provider')"],
        "ProviderCollector.unregister_provider": ["('provider')"],
        "ProviderCollector.wait_for_providers": ["()"],
        "ProviderCollector.stop": ["()"],
        "Entrypoint": ["()", "(expected_exceptions=ValueError, sensitive_arguments=('a',))"],
        "Entrypoint.method_name": [],
        "Entrypoint.bind": ["('container', 'method')"],
        "Entrypoint.check_signature": ["((), {})"],
        "Entrypoint.decorator": [],
        "register_entrypoint": ["('fn', 'entrypoint')"],
        "ENTRYPOINT_EXTENSIONS_ATTR": [],
        **{name: ["('obj')"] for name in ("is_extension", "is_dependency", "is_entrypoint", "iter_extensions")},
    },
    # 1.4 and 1.14
    "containers": {
        "ServiceContainer": ["(object, {})", "(object)", "(service_cls=object, config={})"],
        **{f"ServiceContainer.{name}": ["()"] for name in ("start", "stop", "kill", "wait")},
        "ServiceContainer.kill": ["()", "(exc_info=None)"],
        "ServiceContainer.spawn_worker": [
            "('entrypoint', (), {})", "('entrypoint', (), {}, context_data={}, handle_result=None)",
        ],
        "ServiceContainer.spawn_managed_thread": ["('fn')", "('fn', identifier='name')"],
        "ServiceContainer.extensions": [],
        "ServiceContainer.interface": [],
        "get_service_name": ["(object)"],
        "get_container_cls": ["({})", "()"],
        "new_call_id": ["()"],
        "WorkerContext": [
            "('container', 'service', 'entrypoint')",
            "('container', 'service', 'entrypoint', args=(), kwargs={}, data={})",
        ],
    },
    "runners": {
        "ServiceRunner": ["({})", "()"],
        **{f"ServiceRunner.{name}": ["()"] for name in ("start", "stop", "kill", "wait")},
        "ServiceRunner.add_service": ["(object)"],
        "ServiceRunner.service_names": [],
        "ServiceRunner.containers": [],
        "run_services": ["({}, object)", "({}, object, kill_on_exit=True)", "(object, object)"],
    },
    # 1.6 and 1.14
    "standalone.rpc": {
        **{name: [
            "('maths', {})", "('maths', {}, context_data={}, timeout=1)", "('maths', {}, reply_listener_cls=None)", "('maths')",
            "('maths', context_data={}, timeout=1)",
        ] for name in ("ServiceRpcProxy", "ServiceRpcClient")},
        **{name: [
            "({})", "({}, context_data={}, timeout=1)", "({}, reply_listener_cls=None)", "()", "(context_data={}, timeout=1)",
        ] for name in ("ClusterRpcProxy", "ClusterRpcClient")},
        **{f"ClusterRpcProxy.{name}": ["()"] for name in ("start", "stop", "__enter__")},
        **{f"ServiceRpcProxy.{name}": ["()"] for name in ("start", "stop", "__enter__")},
    },
    "standalone.events": {
        "event_dispatcher": ["({})", "({}, delivery_mode=1)", "()"],
        "get_event_exchange": ["('service', {})", "('service')"],
    },
    # 1.7
    "exceptions": {
        "ExtensionNotFound": ["('text')"],
        "RpcTimeout": ["()"],
        "ReplyQueueExpiredWithPendingReplies": ["('text')"],
        "ContainerBeingKilled": ["()"],
        "RemoteError": ["()", "(exc_type='E', value='v')"],
        **{name: ["('text')"] for name in (
            "BadRequest", "MalformedRequest", "MethodNotFound", "IncorrectSignature", "ConnectionNotFound", "ConfigurationError",
            "CommandError",
        )},
        "UnknownService": ["('maths')"],
        "UnserializableValueError": ["('value')"],
        "registry": [],
        "deserialize_to_instance": ["(ValueError)"],
        "serialize": ["('exc')"],
        "deserialize": ["({})"],
        "safe_for_serialization": ["('value')"],
        "get_module_path": ["(ValueError)"],
    },
    # 1.9 and 1.14
    "messaging": {
        "HeaderEncoder": ["()"],
        "HeaderEncoder.get_message_headers": ["('ctx')"],
        "HeaderDecoder": ["()"],
        "HeaderDecoder.unpack_message_headers": ["('message')"],
        "encode_to_headers": ["({})", "({}, prefix='a')"],
        "decode_from_headers": ["({})", "({}, prefix='a')"],
        "Consumer": ["('queue')", "('queue', requeue_on_error=True)"],
        "consume": ["('queue')"],
        "Publisher": ["()", "('exchange', 'queue', declare=[])"],
        "QueueConsumer": ["()"],
        "QueueConsumerStopped": ["()"],
    },
    "amqp": {"UndeliverableMessage": ["()"]},
    "amqp.publish": {"UndeliverableMessage": ["()"]},
    "serialization": {"setup": ["({})", "()"]},
    # 1.10
    "constants": {name: [] for name in """
        AMQP_URI_CONFIG_KEY WEB_SERVER_CONFIG_KEY RPC_EXCHANGE_CONFIG_KEY SERIALIZER_CONFIG_KEY SERIALIZERS_CONFIG_KEY
        ACCEPT_CONFIG_KEY HEARTBEAT_CONFIG_KEY AMQP_SSL_CONFIG_KEY TRANSPORT_OPTIONS_CONFIG_KEY LOGIN_METHOD_CONFIG_KEY
        MAX_WORKERS_CONFIG_KEY PARENT_CALLS_CONFIG_KEY DEFAULT_MAX_WORKERS DEFAULT_PARENT_CALLS_TRACKED DEFAULT_SERIALIZER
        DEFAULT_RETRY_POLICY DEFAULT_HEARTBEAT DEFAULT_TRANSPORT_OPTIONS CALL_ID_STACK_CONTEXT_KEY AUTH_TOKEN_CONTEXT_KEY
        LANGUAGE_CONTEXT_KEY USER_ID_CONTEXT_KEY USER_AGENT_CONTEXT_KEY HEADER_PREFIX NON_PERSISTENT PERSISTENT
    """.split()},
    # 1.11
    "cli.main": {
        "main": ["()"],
        "setup_yaml_parser": ["()"],
        "ENV_VAR_MATCHER": [],
        "env_var_constructor": ["('loader', 'node')", "('loader', 'node', raw=True)"],
    },
    "cli.run": {
        "run": ["([], {})", "([], {}, backdoor_port=3000)"],
        "import_service": ["('module')"],
        "setup_backdoor": ["('runner', 3000)"],
    },
    "cli.shell": {"ShellRunner": ["('banner', {})"], "make_nameko_helper": ["({})"]},
    # 1.12
    "testing.services": {
        "entrypoint_hook": ["('container', 'method')", "('container', 'method', context_data={}, timeout=30)"],
        "entrypoint_waiter": ["('container', 'method')", "('container', 'method', timeout=30, callback=None)"],
        "entrypoint_waiter.Timeout": [],
        "worker_factory": ["(object)", "(object, maths=1)"],
        "replace_dependencies": ["('container', 'a', 'b', c=1)"],
        "restrict_entrypoints": ["('container', 'a', 'b')"],
        "MockDependencyProvider": ["('name')", "('name', dependency=1)"],
        "Once": ["()", "(1, a=2)"],
        "once": [],
        "dummy": [],
    },
    "testing.utils": {
        "get_extension": ["('container', object)", "('container', object, method_name='a')"],
        "get_container": ["('runner', object)"],
        "wait_for_call": ["(1, 'mock')"],
        "wait_for_worker_idle": ["('container')", "('container', timeout=1)"],
        "assert_stops_raising": ["('fn')", "('fn', exception_type=ValueError, timeout=10, interval=0.1)"],
        "unpack_mock_call": ["('call')"],
        "AnyInstanceOf": ["(int)"],
        "ANY_PARTIAL": [],
        "DummyProvider": ["()", "(method_name='a')"],
        "find_free_port": ["()", "(host='127.0.0.1')"],
        "ResourcePipeline": ["('create', 'destroy')", "('create', 'destroy', size=3)"],
        "ResourcePipeline.run": ["()"],
        "ResourcePipeline.get": ["()"],
    },
    "testing.waiting": {
        "wait_for_call": ["('obj', 'target')", "('obj', 'target', callback=None)"],
        "WaitResult": ["()"],
        "WaitResult.get": ["()"],
        "WaitResult.has_result": [],
        "WaitResult.NotReady": ["()"],
    },
    "testing.websocket": {"make_virtual_socket": ["('127.0.0.1', 8000)", "('127.0.0.1', 8000, path='/ws')"]},
    "testing.pytest": {name: [] for name in """
        empty_config mock_container container_factory runner_factory predictable_call_ids web_config web_config_port web_session
        websocket rabbit_config rabbit_ssl_config rabbit_manager vhost_pipeline amqp_uri get_message_from_queue fast_teardown
    """.split()},
    # 1.13
    "log_helpers": {"make_timing_logger": ["('logger')", "('logger', precision=3, level=10)"]},
    "utils": {
        "get_redacted_args": ["('entrypoint', 1, a=2)"],
        "REDACTED": [],
        "import_from_path": ["('a.b')"],
        "sanitize_url": ["('url')"],
    },
    "utils.retry": {
        "retry": ["()", "(for_exceptions=ValueError, max_attempts=3, delay=1, backoff=1, max_delay=None)", "(print)"],
    },
    "utils.concurrency": {
        "SpawningProxy": ["([])", "([], abort_on_error=True)"],
        "SpawningSet": ["()"],
        "SpawningSet.all": [],
        "fail_fast_imap": ["('pool', 'call', [])"],
    },
    # 1.14
    "": {"config": [], "config.setup": ["({})"], "config.patch": ["({})", "({}, clear=True)"]},
}  # fmt: skip

#: Decorators, as applications use them; each is called, and must leave the function as it was.
DECORATORS = {
    "rpc": {"rpc": ["", "()", "(expected_exceptions=(ValueError,), sensitive_arguments=('a', 'b.c'))"]},
    "events": {"event_handler": [
        "('source', 'type')", "('source', 'order.*', handler_type='singleton', reliable_delivery=False, requeue_on_error=True)",
        "('source', 'type', expected_exceptions=ValueError)",
    ]},
    "timer": {"timer": ["(1)", "(interval=0.5)", "(interval=1, eager=True)"]},
    "web.handlers": {"http": ["('GET', '/')", "('GET,PUT', '/foo/<int:bar>', expected_exceptions=ValueError)"]},
    "web.websocket": {"rpc": ["", "()"]},
    "testing.services": {"once": ["", "()", "(1, a=2)"], "dummy": ["", "()"]},
    "extensions": {"Entrypoint.decorator": ["", "(expected_exceptions=ValueError)"]},
}  # fmt: skip

#: Names that spoke to a broker (or to argparse, or eventlet), and a word of what their error must offer.
GONE = {
    "rpc": {"ReplyListener": "link", "RpcConsumer": "RpcServer", "Responder": "RpcServer"},
    "standalone.rpc": {"SingleThreadedReplyListener": "leave `reply_listener_cls` out"},
    "amqp": {"get_connection": "zmqservices.events", "get_producer": "zmqservices.rpc"},
    "amqp.publish": {
        "Publisher": "EventDispatcher", "get_connection": "zmqservices.rpc", "get_producer": "zmqservices.events",
    },
    "testing.rabbit": {"Client": "zmqservices ls"},
    "testing.utils": {
        "get_rabbit_connections": "zmqservices.testing.network", "reset_rabbit_connections": "zmqservices.testing.network",
    },
    "cli.main": {"setup_parser": "zmqservices.cli.main.cli"},
    "cli.run": {"main": "run_command"},
    "cli.commands": {
        "Run": "run_command", "Shell": "shell_command", "ShowConfig": "show_config_command", "Backdoor": "backdoor_command",
        "Test": "test_command",
    },
}  # fmt: skip


# --- the tests -------------------------------------------------------------------------------------------------------


def load(module):
    """The module of that name."""
    return importlib.import_module(f"zmqservices.{module}".rstrip("."))


def find(module, name):
    found = load(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def call(*args, **kwargs):
    return args, kwargs


def fits(target, arguments, is_method):
    """Bind the arguments to the signature; raises TypeError."""
    args, kwargs = eval(f"call{arguments}")
    if inspect.isclass(target):
        # An exception's or a plain class's signature is its `__init__`, whatever `__new__` takes.
        target, is_method = target.__init__, True
    inspect.signature(target).bind(*((None,) if is_method else ()), *args, **kwargs)


ROWS = [(module, name, calls) for module, names in NAMES.items() for name, calls in names.items()]


@pytest.mark.parametrize("module, name, calls", ROWS, ids=[f"{module}.{name}" for module, name, _ in ROWS])
def test_a_name_is_there_and_can_be_called_as_in_nameko(module, name, calls):
    target = find(module, name)
    owner = find(module, name.rpartition(".")[0]) if "." in name else None
    is_method = inspect.isclass(owner) and inspect.isfunction(target)

    for arguments in calls:
        fits(target, arguments, is_method)


@pytest.mark.parametrize("module, name, use", [
    (module, name, use) for module, names in DECORATORS.items() for name, uses in names.items() for use in uses
])  # fmt: skip
def test_a_decorator_leaves_the_function_as_it_is(module, name, use):
    from zmqservices.extensions import ENTRYPOINT_EXTENSIONS_ATTR

    decorate = eval(f"decorator{use}", {"decorator": find(module, name)})

    def method(self):
        return "as it was"

    assert decorate(method) is method
    assert method(None) == "as it was"
    assert len(getattr(method, ENTRYPOINT_EXTENSIONS_ATTR)) == 1


@pytest.mark.parametrize("module, name, word", [
    (module, name, word) for module, names in GONE.items() for name, word in names.items()
])  # fmt: skip
def test_a_name_that_is_gone_says_what_to_use(module, name, word):
    with pytest.raises(ImportError) as caught:
        exec(f"from zmqservices.{module} import {name}")

    assert str(caught.value).startswith(f"zmqservices.{module} has no {name}: ")
    assert word in str(caught.value)


@pytest.mark.parametrize("module", sorted(GONE))
def test_other_names_of_such_a_module_are_attribute_errors(module):
    found = importlib.import_module(f"zmqservices.{module}")

    assert not hasattr(found, "_private")
    assert not hasattr(found, "__path_to_nothing__")


# --- what only objects have ------------------------------------------------------------------------------------------


def test_1_4_a_container_has_its_attributes():
    from zmqservices.containers import ServiceContainer

    class Service:
        name = "service"

    container = ServiceContainer(Service, {})

    for name in """service_cls config service_name shared_extensions max_workers serializer accept entrypoints dependencies
        subextensions extensions interface started _worker_pool _worker_threads _managed_threads _being_killed _died
        _inject_dependencies _worker_setup _worker_result _worker_teardown""".split():
        assert hasattr(container, name), name
    for name in ("waitall", "free", "running"):
        assert callable(getattr(container._worker_pool, name))


def test_1_4_a_worker_context_has_its_attributes():
    from zmqservices.containers import ServiceContainer, WorkerContext
    from zmqservices.testing.utils import DummyProvider

    class Service:
        name = "service"

    worker_ctx = WorkerContext(ServiceContainer(Service, {}), None, DummyProvider("method"))

    for name in """config service_name data call_id call_id_stack context_data origin_call_id immediate_parent_call_id container
        service entrypoint args kwargs""".split():
        assert hasattr(worker_ctx, name), name


def test_1_7_exceptions_have_their_bases():
    from zmqservices import exceptions

    assert issubclass(exceptions.ExtensionNotFound, AttributeError)
    for name in ("MalformedRequest", "MethodNotFound", "IncorrectSignature", "ConnectionNotFound"):
        assert issubclass(getattr(exceptions, name), exceptions.BadRequest)
    assert set(exceptions.registry.values()) >= {
        exceptions.MalformedRequest, exceptions.MethodNotFound, exceptions.IncorrectSignature
    }  # fmt: skip


def test_1_10_keys_have_the_texts_that_settings_files_have():
    from zmqservices import constants

    texts = {
        "AMQP_URI_CONFIG_KEY": "AMQP_URI", "WEB_SERVER_CONFIG_KEY": "WEB_SERVER_ADDRESS",
        "RPC_EXCHANGE_CONFIG_KEY": "rpc_exchange",
        "SERIALIZER_CONFIG_KEY": "serializer", "SERIALIZERS_CONFIG_KEY": "SERIALIZERS", "ACCEPT_CONFIG_KEY": "ACCEPT",
        "HEARTBEAT_CONFIG_KEY": "HEARTBEAT", "AMQP_SSL_CONFIG_KEY": "AMQP_SSL", "LOGIN_METHOD_CONFIG_KEY": "LOGIN_METHOD",
        "TRANSPORT_OPTIONS_CONFIG_KEY": "TRANSPORT_OPTIONS", "MAX_WORKERS_CONFIG_KEY": "max_workers",
        "PARENT_CALLS_CONFIG_KEY": "parent_calls_tracked", "CALL_ID_STACK_CONTEXT_KEY": "call_id_stack",
        "AUTH_TOKEN_CONTEXT_KEY": "auth_token", "LANGUAGE_CONTEXT_KEY": "language", "USER_ID_CONTEXT_KEY": "user_id",
        "USER_AGENT_CONTEXT_KEY": "user_agent", "HEADER_PREFIX": "nameko", "NON_PERSISTENT": 1, "PERSISTENT": 2,
        "DEFAULT_MAX_WORKERS": 10, "DEFAULT_PARENT_CALLS_TRACKED": 10,
    }  # fmt: skip

    assert {name: getattr(constants, name) for name in texts} == texts


@pytest.mark.parametrize("command, options", [
    ("run", ["--config", "--broker", "--backdoor-port", "--backdoor", "-c", "-d", "--define"]),
    ("shell", ["--broker", "--interface", "--config"]),
    ("show-config", ["--config"]),
    ("backdoor", ["--rlwrap"]),
    ("test", []),
])  # fmt: skip
def test_1_11_commands_have_their_options(command, options):
    from zmqservices.cli.main import cli

    found = cli.get_command(click.Context(cli), command)
    known = {text for parameter in found.params for text in (*parameter.opts, *parameter.secondary_opts)}

    assert set(options) <= known


def test_1_12_fixtures_are_fixtures():
    from zmqservices.testing import pytest as plugin

    fixtures = [name for name in NAMES["testing.pytest"] if type(getattr(plugin, name)).__name__ == "FixtureFunctionDefinition"]

    assert sorted(fixtures) == sorted(NAMES["testing.pytest"])


def test_1_14_config_is_a_mapping_that_tests_patch():
    from collections import UserDict

    from zmqservices import config

    assert isinstance(config, UserDict)
    with config.patch({"a": 1}):
        assert config["a"] == 1
    assert "a" not in config
