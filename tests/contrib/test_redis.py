"""A Redis client for services, against a real server."""

import pytest

from tests.ports import free_port
from zmqservices.contrib.redis import Redis
from zmqservices.exceptions import ConfigurationError, RemoteError
from zmqservices.rpc import rpc
from zmqservices.standalone.rpc import ServiceRpcProxy
from zmqservices.testing.services import worker_factory


class Basket:
    name = "basket"

    redis = Redis("baskets")
    raw = Redis("baskets", decode_responses=False)

    @rpc
    def put(self, user, item):
        return self.redis.rpush(user, item)

    @rpc
    def items(self, user):
        return self.redis.lrange(user, 0, -1)

    @rpc
    def raw_items(self, user):
        return self.raw.lrange(user, 0, -1)

    @rpc
    def drop_connections(self):
        self.raw.client_kill_filter(_type="normal", skipme=True)


@pytest.fixture
def basket(serve, redis_url):
    container = serve(Basket, REDIS_URIS={"baskets": redis_url})
    with ServiceRpcProxy("basket", timeout=10) as proxy:
        yield proxy
    container.stop()


def test_values_are_kept(basket, cluster_config):
    user = cluster_config["NAMESPACE"]

    assert [basket.put(user, "tea"), basket.put(user, "coffee")] == [1, 2]
    assert basket.items(user) == ["tea", "coffee"]
    assert basket.raw_items(user) == [b"tea", b"coffee"]


def test_workers_share_its_connections(basket, cluster_config):
    calls = [basket.put.call_async(cluster_config["NAMESPACE"], number) for number in range(100)]

    assert sorted(call.result() for call in calls) == list(range(1, 101))


def test_a_connection_that_was_lost_is_made_again(basket, cluster_config):
    basket.put(cluster_config["NAMESPACE"], "tea")
    basket.drop_connections()

    assert basket.items(cluster_config["NAMESPACE"]) == ["tea"]


def test_a_server_that_is_away_is_an_error_of_the_call(serve):
    serve(Basket, REDIS_URIS={"baskets": f"redis://127.0.0.1:{free_port()}/0"})

    with ServiceRpcProxy("basket", timeout=10) as basket, pytest.raises(RemoteError, match="ConnectionError"):
        basket.items("anybody")


@pytest.mark.parametrize("settings, said", [
    ({}, r"REDIS_URIS has no 'baskets'; it is None, and a mapping such as \{'baskets': 'redis://127.0.0.1:6379/0'\}"),
    ({"REDIS_URIS": {"other": "redis://127.0.0.1"}}, "REDIS_URIS has no 'baskets'"),
    ({"REDIS_URIS": {"baskets": "http://127.0.0.1"}}, r"REDIS_URIS\['baskets'\] is 'http://127.0.0.1'"),
])  # fmt: skip
def test_settings_that_make_no_sense(container_factory, settings, said):
    with pytest.raises(ConfigurationError, match=said):
        container_factory(Basket, settings).start()


def test_a_unit_test_needs_no_redis():
    service = worker_factory(Basket)
    service.redis.lrange.return_value = ["tea"]

    assert service.items("ada") == ["tea"]
