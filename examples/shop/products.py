"""Products and how many of each are in stock, in Redis."""

from __future__ import annotations

from typing import Any

from examples.shop.errors import AlreadyExists, NotFound
from zmqservices.contrib.redis import Redis
from zmqservices.events import event_handler
from zmqservices.rpc import rpc

#: An event may come twice (docs/events.rst). Its effect, and the fact that it was handled, are therefore stored in one step: the
#: first key is the set of handled orders, the other keys are products. Redis takes
#: nothing back when a script fails, so everything is checked first.
LOWER_STOCK = """
for i = 2, #ARGV do
    if not string.match(ARGV[i], '^%d+$') then
        return redis.error_reply('not a quantity: ' .. ARGV[i])
    end
end
if redis.call('SADD', KEYS[1], ARGV[1]) == 0 then
    return 0
end
for i = 2, #KEYS do
    redis.call('HINCRBY', KEYS[i], 'in_stock', '-' .. ARGV[i])
end
return 1
"""


def key_of(product_id: str) -> str:
    return f"product:{product_id}"


class Products:
    name = "products"

    redis = Redis("products")

    @rpc(expected_exceptions=AlreadyExists)
    def create(self, id: str, title: str, in_stock: int) -> None:
        """Take a product in; its id is the client's choice."""
        with self.redis.pipeline() as steps:
            steps.hsetnx(key_of(id), "title", title)
            steps.hsetnx(key_of(id), "in_stock", in_stock)
            is_new, _ = steps.execute()
        if not is_new:
            raise AlreadyExists(f"there is a product {id!r} already")

    @rpc(expected_exceptions=NotFound, idempotent=True)
    def get(self, id: str) -> dict[str, Any]:
        """One product. A stock below zero is what has yet to be built."""
        found = self.redis.hgetall(key_of(id))
        if not found:
            raise NotFound(f"there is no product {id!r}")
        return {"id": id, "title": found["title"], "in_stock": int(found["in_stock"])}

    @event_handler("orders", "order_created")
    def lower_stock(self, order: dict[str, Any]) -> None:
        """Called for each order, at least once; also for those that were placed while no instance of this was there."""
        lines = order["lines"]
        keys = ["orders_handled", *(key_of(line["product"]) for line in lines)]
        self.redis.eval(LOWER_STOCK, len(keys), *keys, order["id"], *(line["quantity"] for line in lines))
