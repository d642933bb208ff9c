"""Stores products and their stock in Redis."""

from __future__ import annotations

from typing import Any

from examples.shop.errors import AlreadyExists, NotFound
from zmqservices.contrib.redis import Redis
from zmqservices.events import event_handler
from zmqservices.rpc import rpc

#: An event may come twice (docs/events.rst), so the script stores its effect, and the fact that it was handled, in one step.
#: The first key is the set of handled orders. The other keys are products. Redis does not roll back a script that fails, so the
#: script checks all quantities first.
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
        """Store a new product. The client chooses its id. Raises AlreadyExists."""
        with self.redis.pipeline() as steps:
            steps.hsetnx(key_of(id), "title", title)
            steps.hsetnx(key_of(id), "in_stock", in_stock)
            is_new, _ = steps.execute()
        if not is_new:
            raise AlreadyExists(f"there is a product {id!r} already")

    @rpc(expected_exceptions=NotFound, idempotent=True)
    def get(self, id: str) -> dict[str, Any]:
        """Return a product. A negative stock means that products are sold which have yet to be built. Raises NotFound."""
        found = self.redis.hgetall(key_of(id))
        if not found:
            raise NotFound(f"there is no product {id!r}")
        return {"id": id, "title": found["title"], "in_stock": int(found["in_stock"])}

    @event_handler("orders", "order_created")
    def lower_stock(self, order: dict[str, Any]) -> None:
        """Called at least once for each order, including orders that were placed while no instance of this service ran."""
        lines = order["lines"]
        keys = ["orders_handled", *(key_of(line["product"]) for line in lines)]
        self.redis.eval(LOWER_STOCK, len(keys), *keys, order["id"], *(line["quantity"] for line in lines))
