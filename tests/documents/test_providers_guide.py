"""The examples of docs/providers.rst run as they stand there."""

import re
import textwrap
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select

from zmqservices.testing.services import entrypoint_hook, entrypoint_waiter, worker_factory

PAGE = (Path(__file__).parents[2] / "docs" / "providers.rst").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def names():
    names = {"__name__": "providers_page"}
    for block in re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", PAGE):
        exec(textwrap.dedent(block), names)
    return names


def test_products_are_kept(names, container_factory, cluster_config, tmp_path):
    settings = {**cluster_config, "DB_URIS": {"products:Base": f"sqlite:///{tmp_path}/products.db"}}
    container = container_factory(names["Products"], settings)
    container.start()
    (database,) = container.dependencies
    names["Base"].metadata.create_all(database.engine)

    with entrypoint_hook(container, "add") as add, entrypoint_hook(container, "titles") as titles:
        assert add("tea") == 1
        assert titles() == ["tea"]
    container.stop()


def test_a_product_is_copied_with_its_event(names, container_factory, cluster_config, tmp_path):
    uris = {"shop:Base": f"sqlite:///{tmp_path}/shop.db", "copies:Base": f"sqlite:///{tmp_path}/copies.db"}
    settings = {**cluster_config, "DB_URIS": uris, "JOURNAL_FOLDER": str(tmp_path / "journals")}
    for uri in uris.values():
        engine = create_engine(uri)
        names["Base"].metadata.create_all(engine)
        engine.dispose()
    copies, shop = container_factory(names["Copies"], settings), container_factory(names["Shop"], settings)
    copies.start()
    shop.start()

    with entrypoint_hook(shop, "add") as add, entrypoint_waiter(copies, "copy", timeout=10):
        add("tea")

    engine = create_engine(uris["copies:Base"])
    with engine.connect() as connection:
        assert connection.scalars(select(names["Product"].title)).all() == ["tea"]
    engine.dispose()
    shop.stop()
    copies.stop()


def test_baskets_and_weather_are_looked_up(names):
    basket, weather = worker_factory(names["Basket"]), worker_factory(names["Weather"])
    basket.redis.rpush.return_value = 1
    weather.cache.get.return_value = "sun"

    assert basket.put("ada", "tea") == 1
    assert weather.in_city("rome") == "sun"


def test_orders_raise_what_is_reported(names):
    with pytest.raises(LookupError):
        worker_factory(names["Orders"]).place("tea", "1234")
