"""The shop's public API: JSON over HTTP. The gateway checks requests and calls the other services. It stores nothing."""

from __future__ import annotations

from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request, Response

from examples.shop import bodies
from examples.shop.errors import AlreadyExists, NotFound
from zmqservices.exceptions import BadRequest, MaybeExecuted, RemoteUnavailable, RpcTimeout
from zmqservices.rpc import RpcProxy
from zmqservices.web.handlers import HttpRequestHandler
from zmqservices.web.results import to_response

#: The status for each error; the first class that fits counts. After 503 a client may repeat the request. After 504 the order
#: may exist.
STATUS: dict[type[Exception], int] = {
    NotFound: 404,
    AlreadyExists: 409,
    BadRequest: 400,
    RpcTimeout: 504,
    MaybeExecuted: 504,
    RemoteUnavailable: 503,
}


class JsonHandler(HttpRequestHandler):
    """An `@http` that answers errors as JSON, too: `{"error": "there is no product 'blimp'"}`."""

    def __init__(self, method: str, url: str, **options: Any) -> None:
        super().__init__(method, url, expected_exceptions=tuple(STATUS), **options)

    def response_from_exception(self, exc: Any) -> Response:
        if isinstance(exc, HTTPException):
            return to_response((exc.code or 500, {"error": exc.description or exc.name}))
        for kind, status in STATUS.items():
            if isinstance(exc, kind):
                return to_response((status, {"error": str(exc)}))
        return super().response_from_exception(exc)


http = JsonHandler.decorator


class Gateway:
    name = "gateway"

    products = RpcProxy("products")
    orders = RpcProxy("orders")

    @http("POST", "/products")
    def create_product(self, request: Request) -> Any:
        product = bodies.product(request.get_json())
        self.products.create(**product)
        return 201, {"Location": f"/products/{product['id']}"}, product

    @http("GET", "/products/<id>")
    def get_product(self, request: Request, id: str) -> Any:
        return self.products.get(id)

    @http("POST", "/orders")
    def create_order(self, request: Request) -> Any:
        lines = bodies.order(request.get_json())
        self._products_of(lines)
        order = self.orders.create(lines)
        return 201, {"Location": f"/orders/{order['id']}"}, order

    @http("GET", "/orders/<id>")
    def get_order(self, request: Request, id: str) -> Any:
        """Return an order with the titles of its products."""
        order = self.orders.get(id)
        products = self._products_of(order["lines"])
        lines = [{**line, "title": products[line["product"]]["title"]} for line in order["lines"]]
        return {**order, "lines": lines}

    def _products_of(self, lines: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the products of an order by their ids. The calls run in parallel. Raises NotFound for an unknown product."""
        calls = {line["product"]: self.products.get.call_async(line["product"]) for line in lines}
        return {id: call.result() for id, call in calls.items()}
