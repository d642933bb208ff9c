"""A memcached client for services, against a real server."""

from datetime import date
from decimal import Decimal

import pytest
from pymemcache.client.base import Client

from tests.ports import free_port
from zmqservices.contrib.memcached import Memcached, TypedValues
from zmqservices.exceptions import ConfigurationError, RemoteError
from zmqservices.rpc import rpc
from zmqservices.standalone.rpc import ServiceRpcProxy
from zmqservices.testing.services import worker_factory


class Weather:
    name = "weather"

    cache = Memcached(default_noreply=False)

    @rpc
    def keep(self, city, weather, seconds=0):
        return self.cache.set(city, weather, expire=seconds)

    @rpc
    def look(self, city):
        return self.cache.get(city)

    @rpc
    def count(self, city):
        self.cache.add(city, "0")
        return self.cache.incr(city, 1)


@pytest.fixture
def weather(serve, memcached_address):
    container = serve(Weather, MEMCACHED_URIS=[memcached_address])
    with ServiceRpcProxy("weather", timeout=10) as proxy:
        yield proxy
    container.stop()


VALUES = [
    "rain", "", b"\x00\xff", 7, 1.5, True, ["a", 1], {"wind": {1: "N"}}, (1, 2), {1, 2}, date(2024, 2, 29), Decimal("1.10"),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_is_found_as_it_was_kept(weather, value):
    assert weather.keep("london", value) is True

    found = weather.look("london")

    assert found == value and type(found) is type(value)


def test_what_is_not_there_is_none(weather):
    assert weather.look("atlantis") is None


def test_numbers_that_are_counted_are_texts(weather):
    assert [weather.count("visitors"), weather.count("visitors")] == [1, 2]
    assert weather.look("visitors") == "2"


def test_other_programs_read_texts_and_their_bytes_are_bytes(weather, memcached_address):
    other = Client(memcached_address)
    weather.keep("paris", "sun")
    other.set("rome", "sun", noreply=False)

    assert other.get("paris") == b"sun"
    assert weather.look("rome") == b"sun"
    other.close()


def test_workers_share_its_connections(weather):
    weather.keep("oslo", ["snow"])
    calls = [weather.look.call_async("oslo") for _ in range(100)]

    assert all(call.result() == ["snow"] for call in calls)


def test_what_cannot_be_kept_is_an_error():
    with pytest.raises(Exception, match="Unserializable value"):
        TypedValues().serialize("key", object())


def test_a_server_that_is_away_is_an_error_of_the_call(serve):
    serve(Weather, MEMCACHED_URIS=[f"127.0.0.1:{free_port()}"])

    with ServiceRpcProxy("weather", timeout=10) as weather, pytest.raises(RemoteError, match="Connection"):
        weather.look("london")


@pytest.mark.parametrize("settings, said", [
    ({}, r"MEMCACHED_URIS is None; a list of servers is needed, such as \['127.0.0.1:11211'\]"),
    ({"MEMCACHED_URIS": "127.0.0.1:11211"}, "MEMCACHED_URIS is '127.0.0.1:11211'"),
    ({"MEMCACHED_URIS": ["localhost"]}, "has 'localhost'; HOST:PORT is needed"),
])  # fmt: skip
def test_settings_that_make_no_sense(container_factory, settings, said):
    with pytest.raises(ConfigurationError, match=said):
        container_factory(Weather, settings).start()


def test_a_unit_test_needs_no_memcached():
    service = worker_factory(Weather)
    service.cache.get.return_value = "sun"

    assert service.look("rome") == "sun"
