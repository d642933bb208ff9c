"""The shop: each service as a plain class, all three over real sockets and stores, and the demo in many processes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import gevent
import pytest
import redis

from examples.shop import bodies
from examples.shop.errors import AlreadyExists, NotFound
from examples.shop.gateway import Gateway, JsonHandler
from examples.shop.orders import Orders
from examples.shop.products import Products
from tests.contrib import servers
from zmqservices.exceptions import BadRequest, MaybeExecuted, RpcTimeout, UnknownService
from zmqservices.standalone.events import event_dispatcher
from zmqservices.standalone.rpc import ServiceRpcProxy
from zmqservices.testing.services import entrypoint_hook, entrypoint_waiter, worker_factory

ROOT = Path(__file__).parents[2]

ZEPPELIN = {"id": "zeppelin", "title": "Zeppelin NT", "in_stock": 5}
TWO_ZEPPELINS = {"lines": [{"product": "zeppelin", "quantity": 2}]}


@pytest.fixture(autouse=True)
def bound_on_time():
    """No test of this module takes longer than this, whatever it waits for."""
    with gevent.Timeout(55):
        yield


# --- each by itself: no network, no store ----------------------------------------------------------------------------


def test_a_product_has_the_types_that_redis_has_not():
    products = worker_factory(Products)
    products.redis.hgetall.return_value = {"title": "Zeppelin NT", "in_stock": "5"}

    assert products.get("zeppelin") == ZEPPELIN
    products.redis.hgetall.assert_called_once_with("product:zeppelin")


def test_a_product_that_does_not_exist():
    products = worker_factory(Products)
    products.redis.hgetall.return_value = {}

    with pytest.raises(NotFound, match="there is no product 'blimp'"):
        products.get("blimp")


def test_an_order_is_told_of_once_it_is_committed():
    orders = worker_factory(Orders)
    events = []
    orders.db.get_session.return_value.__exit__.side_effect = lambda *exc_info: events.append("committed")
    orders.dispatch.side_effect = lambda *event: events.append(event)

    order = orders.create(TWO_ZEPPELINS["lines"])

    assert events == ["committed", ("order_created", order)]
    assert order["lines"] == TWO_ZEPPELINS["lines"]


def test_an_order_that_cannot_be_committed_is_not_told_of():
    orders = worker_factory(Orders)
    orders.db.get_session.return_value.__exit__.side_effect = OSError("the disk is full")

    with pytest.raises(OSError, match="disk"):
        orders.create(TWO_ZEPPELINS["lines"])

    orders.dispatch.assert_not_called()


def test_an_order_of_what_does_not_exist_is_not_placed():
    gateway = worker_factory(Gateway)
    gateway.products.get.call_async.return_value.result.side_effect = NotFound("there is no product 'zeppelin'")
    request = type("Request", (), {"get_json": lambda self: TWO_ZEPPELINS})()

    with pytest.raises(NotFound):
        gateway.create_order(request)

    gateway.orders.create.assert_not_called()


@pytest.mark.parametrize("read, body, said", [
    (bodies.product, [], "the body is []; an object is needed"),
    (bodies.product, {}, "id is None; a text of 1 to 50 characters is needed"),
    (bodies.product, {**ZEPPELIN, "title": "x" * 51}, "a text of 1 to 50 characters is needed"),
    (bodies.product, {**ZEPPELIN, "in_stock": "ten"}, "in_stock is 'ten'; a whole number from 0 to 1000000 is needed"),
    (bodies.product, {**ZEPPELIN, "in_stock": -1}, "in_stock is -1; a whole number"),
    (bodies.order, None, "the body is None; an object is needed"),
    (bodies.order, {"lines": []}, "lines is []; a list with at least one line is needed"),
    (bodies.order, {"lines": ["zeppelin"]}, "a line is 'zeppelin'; an object is needed"),
    (bodies.order, {"lines": [{"product": 7, "quantity": 1}]}, "product is 7; a text"),
    (bodies.order, {"lines": [{"product": "zeppelin", "quantity": 0}]}, "quantity is 0; a whole number from 1"),
    (bodies.order, {"lines": [{"product": "zeppelin", "quantity": True}]}, "quantity is True; a whole number"),
])  # fmt: skip
def test_what_clients_may_not_send(read, body, said):
    with pytest.raises(BadRequest) as caught:
        read(body)

    assert said in str(caught.value)


@pytest.mark.parametrize("exc, status, error", [
    (NotFound("there is no order 'x'"), 404, "there is no order 'x'"),
    (AlreadyExists("there is one"), 409, "there is one"),
    (BadRequest("lines is None"), 400, "lines is None"),
    (UnknownService("orders"), 503, "Unknown service `orders`"),
    (RpcTimeout("no answer"), 504, "no answer"),
    (MaybeExecuted("the link was lost"), 504, "the link was lost"),
])  # fmt: skip
def test_what_errors_are_to_a_client(exc, status, error):
    response = JsonHandler("GET", "/").response_from_exception(exc)

    assert (response.status_code, json.loads(response.get_data())) == (status, {"error": error})


def test_other_errors_tell_nothing():
    response = JsonHandler("GET", "/").response_from_exception(ValueError("the secret"))

    assert response.status_code == 500
    assert b"secret" not in response.get_data()


# --- together, over real sockets and stores --------------------------------------------------------------------------


@pytest.fixture
def settings(cluster_config, web_config, redis_url, tmp_path):
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    return {
        **cluster_config,
        **web_config,
        "DB_URIS": {"orders:Base": f"sqlite:///{tmp_path}/shop.db"},
        "REDIS_URIS": {"products": redis_url},
        "JOURNAL_FOLDER": str(tmp_path / "journal"),
    }


@pytest.fixture
def shop(runner_factory, settings):
    """The containers of the three services by their names."""
    runner = runner_factory(settings, Products, Orders, Gateway)
    runner.start()
    return runner.service_map


def test_an_order_takes_from_the_stock(shop, web_session):
    assert web_session.post("/products", json=ZEPPELIN).status_code == 201

    with entrypoint_waiter(shop["products"], "lower_stock", timeout=20):
        placed = web_session.post("/orders", json=TWO_ZEPPELINS)

    assert placed.status_code == 201
    assert web_session.get("/products/zeppelin").json() == {**ZEPPELIN, "in_stock": 3}
    assert web_session.get(placed.headers["Location"]).json() == {
        "id": placed.json()["id"],
        "lines": [{"product": "zeppelin", "quantity": 2, "title": "Zeppelin NT"}],
    }


def test_an_event_that_comes_twice_takes_once(shop, settings, web_session):
    web_session.post("/products", json=ZEPPELIN)
    order = {"id": "7", **TWO_ZEPPELINS}

    with event_dispatcher(settings) as dispatch:
        for _ in range(2):
            with entrypoint_waiter(shop["products"], "lower_stock", timeout=20):
                dispatch("orders", "order_created", order)

    assert web_session.get("/products/zeppelin").json()["in_stock"] == 3


def test_an_event_that_cannot_be_handled_fails_each_time_it_comes(shop, settings, web_session):
    web_session.post("/products", json=ZEPPELIN)
    lines = [{"product": "zeppelin", "quantity": 1}, {"product": "zeppelin", "quantity": "many"}]

    with entrypoint_hook(shop["products"], "lower_stock") as lower_stock:
        for _ in range(2):
            with pytest.raises(redis.ResponseError, match="not a quantity: many"):
                lower_stock({"id": "7", "lines": lines})

    assert web_session.get("/products/zeppelin").json()["in_stock"] == 5


@pytest.mark.parametrize("method, path, body, status, error", [
    ("GET", "/products/blimp", None, 404, "there is no product 'blimp'"),
    ("GET", "/orders/7", None, 404, "there is no order '7'"),
    ("POST", "/orders", {"lines": [{"product": "blimp", "quantity": 1}]}, 404, "there is no product 'blimp'"),
    ("POST", "/orders", {}, 400, "lines is None; a list with at least one line is needed"),
    ("POST", "/products", ZEPPELIN, 409, "there is a product 'zeppelin' already"),
])  # fmt: skip
def test_mistakes_are_told_as_json(shop, web_session, method, path, body, status, error):
    web_session.post("/products", json=ZEPPELIN)

    answer = web_session.request(method, path, json=body)

    assert (answer.status_code, answer.json()) == (status, {"error": error})


def test_what_is_no_json_is_told_as_json(shop, web_session):
    answer = web_session.post("/orders", data="{", headers={"Content-Type": "application/json"})

    assert answer.status_code == 400
    assert "error" in answer.json()
    assert web_session.post("/orders", data="lines=1").status_code == 415


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_orders_are_found_again_after_a_restart(container_factory, settings, request, database):
    if database == "postgresql":
        settings["DB_URIS"] = {"orders:Base": request.getfixturevalue("postgresql_url")}
    first, second = (container_factory(Orders, settings) for _ in range(2))
    with ServiceRpcProxy("orders", settings, timeout=20) as orders:
        first.start()
        order = orders.create(TWO_ZEPPELINS["lines"])
        first.stop()
        second.start()

        assert orders.get(order["id"]) == order


# --- and in many processes -------------------------------------------------------------------------------------------


def run_demo(environment=None):
    return subprocess.run(
        [sys.executable, "-m", "examples.shop.demo"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip


@pytest.mark.system
@pytest.mark.timeout(180)  # Six processes; the machine may be busy.
def test_no_stock_change_is_lost_when_products_is_killed():
    servers.program("redis-server")

    demo = run_demo()

    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert demo.stdout.count("  yes  ") == 2
    assert re.search(r"^dashboard: http://127.0.0.1:\d+/$", demo.stdout, re.MULTILINE)


def test_without_a_redis_server_the_demo_says_so(tmp_path):
    demo = run_demo({"PATH": str(tmp_path)})

    assert demo.returncode == 0
    assert "The shop needs redis-server, which is not installed" in demo.stdout
