"""Documents of service classes are valid, and say what the class says.

`asyncapi-3.0.0.json.gz` is the JSON Schema of AsyncAPI 3.0.0, of the npm package @asyncapi/specs 6.11.1 (Apache-2.0).
"""

import dataclasses
import datetime
import enum
import gzip
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import pytest
from openapi_spec_validator import validate

from examples.shop import gateway, orders, products
from zmqservices.events import BROADCAST, EventDispatcher, event_handler
from zmqservices.exceptions import ConfigurationError
from zmqservices.rpc import rpc
from zmqservices.schema import asyncapi, openapi
from zmqservices.timer import timer
from zmqservices.web.handlers import http

if TYPE_CHECKING:
    from somewhere import Unknown

ASYNCAPI = json.loads(gzip.decompress((Path(__file__).parent / "asyncapi-3.0.0.json.gz").read_bytes()))

SHOP = [gateway.Gateway, orders.Orders, products.Products]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Part:
    """A part of something."""

    number: int
    colour: Colour
    price: Decimal
    since: datetime.date | None = None


class Odd:
    """A class of the application that JSON has no form for."""


class Parts:
    """Keeps parts.

    In a warehouse.
    """

    name = "parts"
    dispatch = EventDispatcher()

    @rpc(idempotent=True, expected_exceptions=(KeyError,))
    def find(self, number: int, colour: Colour = Colour.RED, most: int = 10, **others: str) -> list[Part]:
        """Find parts.

        The newest ones first.
        """

    @rpc
    def anything(self, what, odd: Odd, later: "Unknown", *rest: int):
        pass

    @event_handler("orders", "order.*")
    @event_handler("orders", "return.#", handler_type=BROADCAST, reliable_delivery=False)
    def on_order(self, part: Part):
        """Reserve what was ordered."""

    @http("GET", "/parts/<int:number>")
    def get_part(self, request, number) -> Part:
        """One part."""

    @http("GET,PUT", "/parts/<any(red, blue):colour>/<uuid:id>/<path:rest>", expected_exceptions=ValueError)
    def colours(self, request, colour, id, rest: str) -> str:
        pass

    @http("GET", "/stream/<number>")
    def stream(self, request, number: int) -> Iterator[bytes]:
        pass

    @http("POST", "/parts")
    def create(self, request) -> tuple[int, str]:
        pass


class Ticks:
    name = "ticks"

    @timer(1)
    def tick(self):
        pass


@pytest.mark.parametrize("cls", [*SHOP, Parts], ids=lambda cls: cls.__name__)
def test_documents_are_valid(cls):
    made = [document for document in (openapi(cls), asyncapi(cls)) if document is not None]

    assert made
    for document in made:
        json.dumps(document, allow_nan=False)
        if "openapi" in document:
            validate(document)
        else:
            jsonschema.validate(document, ASYNCAPI)
            for reference in references(document):
                assert found(document, reference), reference


def test_the_validators_refuse_what_is_wrong():
    wrong = asyncapi(Parts)
    wrong["operations"]["call.find"]["action"] = "answer"

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, ASYNCAPI)
    with pytest.raises(Exception, match="'paths'|valid"):
        validate({"openapi": "3.1.0", "info": {"title": "x"}})


def references(value):
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref":
                yield inner
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def found(document, reference):
    for piece in reference.removeprefix("#/").split("/"):
        document = document.get(piece)
        if document is None:
            return False
    return True


def test_a_call_has_its_arguments_by_name_and_its_answer():
    document = asyncapi(Parts)
    request, reply = (document["channels"]["call.find"]["messages"][name]["payload"] for name in ("request", "reply"))

    assert document["info"] == {"title": "parts", "version": "0", "description": "Keeps parts.\n\nIn a warehouse."}
    assert request["properties"]["number"] == {"type": "integer"}
    assert request["properties"]["most"] == {"type": "integer", "default": 10}
    assert request["required"] == ["number"]
    assert "additionalProperties" not in request, "it takes others by name"
    assert reply == {"type": "array", "items": {"$ref": "#/components/schemas/Part-Output"}}
    # A price may be given as a number, and is answered as a text: two types of one name.
    assert document["channels"]["handle.on_order"]["messages"]["event"]["payload"] == {"$ref": "#/components/schemas/Part-Input"}
    part = document["components"]["schemas"]["Part-Output"]
    assert part["properties"]["number"] == {"title": "Number", "type": "integer"}
    operation = document["operations"]["call.find"]
    assert (operation["summary"], operation["x-idempotent"], operation["x-errors"]) == ("Find parts.", True, ["KeyError"])
    assert document["channels"]["call.find"]["address"] == "parts.find"


def test_what_no_annotation_tells_may_be_anything():
    properties = asyncapi(Parts)["channels"]["call.anything"]["messages"]["request"]["payload"]["properties"]

    assert properties == {"what": {}, "odd": {"description": "a Python Odd"}, "later": {}}


def test_handled_and_dispatched_events_stand_at_their_addresses():
    document = asyncapi(Parts)
    addresses = {name: channel["address"] for name, channel in document["channels"].items()}

    assert addresses["events"] == "parts/{event_type}"
    assert {addresses["handle.on_order"], addresses["handle.on_order.2"]} == {"orders/order.*", "orders/return.#"}
    assert document["operations"]["dispatch.dispatch"]["action"] == "send"
    handlers = [each for each in document["operations"].values() if "x-handler-type" in each]
    kinds = {(each["x-handler-type"], each["x-reliable-delivery"]) for each in handlers}
    assert kinds == {("service_pool", True), ("broadcast", False)}


def test_paths_have_their_parameters_and_answers():
    document = openapi(Parts)
    get = document["paths"]["/parts/{number}"]["get"]
    [number] = get["parameters"]

    assert (number["in"], number["required"], number["schema"]) == ("path", True, {"type": "integer", "minimum": 0})
    assert get["responses"]["200"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Part"}
    colours = document["paths"]["/parts/{colour}/{id}/{rest}"]
    assert sorted(colours) == ["get", "put"]
    assert [each["schema"] for each in colours["get"]["parameters"]] == [
        {"enum": ["red", "blue"]},
        {"type": "string", "format": "uuid"},
        {"type": "string"},
    ]
    assert colours["get"]["responses"]["400"] == {"description": "The client's mistake: ValueError"}
    assert list(colours["put"]["responses"]["200"]["content"]) == ["text/plain"]
    assert document["paths"]["/stream/{number}"]["get"]["parameters"][0]["schema"] == {"type": "integer"}
    for path, method in (("/stream/{number}", "get"), ("/parts", "post")):
        assert document["paths"][path][method]["responses"] == {"200": {"description": "OK"}}


def test_a_handler_of_ones_own_answers_errors_in_its_own_way():
    responses = openapi(gateway.Gateway)["paths"]["/orders/{id}"]["get"]["responses"]

    assert "NotFound" in responses["default"]["description"]


def test_a_class_without_either_has_no_document():
    assert openapi(Ticks) is None
    assert asyncapi(Ticks) is None


def test_a_class_that_is_no_service_is_refused():
    with pytest.raises(ConfigurationError, match="must define a `name`"):
        openapi(Odd)
