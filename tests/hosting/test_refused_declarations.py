"""Declarations that could never work are refused at the decorator, or when the container is made."""

import contextlib
import functools

import pytest

from zmqservices.containers import ServiceContainer, get_service_name
from zmqservices.events import event_handler
from zmqservices.exceptions import ConfigurationError
from zmqservices.extensions import Entrypoint
from zmqservices.rpc import rpc
from zmqservices.timer import timer
from zmqservices.web.handlers import http
from zmqservices.web.websocket import on_connect, on_disconnect
from zmqservices.web.websocket import rpc as websocket_rpc

ENTRYPOINTS = {
    "rpc": rpc,
    "rpc with options": rpc(idempotent=True),
    "timer": timer(interval=1),
    "event_handler": event_handler("orders", "paid"),
    "http": http("GET", "/"),
    "websocket rpc": websocket_rpc,
    "on_connect": on_connect,
    "on_disconnect": on_disconnect,
    "another": Entrypoint.decorator,
}
every_entrypoint = pytest.mark.parametrize("entrypoint", ENTRYPOINTS.values(), ids=ENTRYPOINTS)


async def a_coroutine(self): ...


async def an_async_generator(self):
    yield 1


def a_generator(self):
    yield 1


def plain(self): ...


@every_entrypoint
@pytest.mark.parametrize("function", [a_coroutine, an_async_generator])
def test_an_async_def_is_refused_with_advice(entrypoint, function):
    with pytest.raises(ConfigurationError, match=rf" on {function.__name__}, an async def: .* write a plain def"):
        entrypoint(function)


@pytest.mark.parametrize("name", [name for name in ENTRYPOINTS if name not in ("http", "another")])
def test_a_generator_is_refused_if_nothing_would_iterate_it(name):
    with pytest.raises(ConfigurationError, match=" on a_generator, a generator: .* return a list"):
        ENTRYPOINTS[name](a_generator)


def test_a_generator_is_accepted_for_http_and_for_entrypoints_that_iterate_it():
    def streamed(self, request):
        yield "a line"

    assert http("GET", "/")(streamed) is streamed
    assert Entrypoint.decorator(streamed) is streamed


@every_entrypoint
def test_a_class_method_is_refused_above_and_below(entrypoint):
    def method(cls): ...

    with pytest.raises(ConfigurationError, match="class method: .* leave @classmethod out"):
        entrypoint(classmethod(method))

    entrypoint(method)
    service = type("Service", (), {"name": "service", "method": classmethod(method)})
    with pytest.raises(ConfigurationError, match=r"Service\.method, a class method"):
        ServiceContainer(service, {})


@every_entrypoint
@pytest.mark.parametrize(
    "thing", [property(plain), functools.partialmethod(plain), functools.cached_property(plain), staticmethod(len)]
)
def test_an_attribute_that_is_not_a_method_is_refused(entrypoint, thing):
    with pytest.raises(ConfigurationError, match="a method is needed, a plain def in the class"):
        entrypoint(thing)


@every_entrypoint
def test_static_methods_and_wrapped_functions_work(entrypoint):
    @functools.wraps(a_coroutine)
    def bridged(self): ...

    @contextlib.contextmanager
    def managed(self):
        yield 1

    for function in (bridged, managed, staticmethod(plain)):
        assert entrypoint(function) is function


@pytest.mark.parametrize("name", ["", "  ", "two\nlines", "nul\0", "x" * 256, "events:orders"])
def test_a_name_that_no_directory_accepts_is_refused_when_the_container_is_made(name):
    service = type("Service", (), {"name": name})

    with pytest.raises(ConfigurationError, match="a service's name is 1 to 255 printable characters"):
        ServiceContainer(service, {})


@pytest.mark.parametrize("name", ["a", "two words", "with.dots-and_more", "größe", "x" * 255])
def test_other_names_are_accepted(name):
    assert get_service_name(type("Service", (), {"name": name})) == name
