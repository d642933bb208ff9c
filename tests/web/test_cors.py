"""CORS: which pages of other origins may read answers."""

import pytest

from zmqservices.exceptions import ConfigurationError
from zmqservices.web.cors import Cors
from zmqservices.web.handlers import http

SHOP = "https://shop.example"


class Service:
    name = "service"

    @http("GET", "/")
    def get(self, request):
        return "hello"

    @http("PUT", "/")
    def put(self, request):
        return "put"

    @http("GET", "/error")
    def error(self, request):
        raise ValueError


def cors(**options):
    return Cors.read({"WEB_SERVER_CORS": {"origins": [SHOP], **options}})


def test_cors_is_off_by_default(serve):
    assert Cors.read({}) is None
    answer = serve(Service).ask("GET", "/", headers={"Origin": SHOP})
    assert not [name for name in answer.headers if name.startswith("Access-Control")]


def test_an_origin_that_is_allowed_is_named():
    assert cors().answer(SHOP) == [("Access-Control-Allow-Origin", SHOP), ("Vary", "Origin")]


def test_other_origins_get_no_cors_headers():
    assert cors().answer("https://evil.example") == [("Vary", "Origin")]
    assert cors().answer(None) == [("Vary", "Origin")]
    assert cors().preflight("https://evil.example", ["GET"]) == []


def test_every_origin():
    assert cors(origins=["*"]).answer("https://anybody") == [("Access-Control-Allow-Origin", "*")]


def test_credentials_and_headers_that_pages_may_read():
    headers = cors(credentials=True, expose=["X-A", "X-B"]).answer(SHOP)

    assert ("Access-Control-Allow-Credentials", "true") in headers
    assert ("Access-Control-Expose-Headers", "X-A, X-B") in headers


def test_a_preflight_lists_allowed_methods_and_headers(serve):
    web = serve(Service, WEB_SERVER_CORS={"origins": SHOP, "headers": ["x-token"], "max_age": 60})
    answer = web.ask("OPTIONS", "/", headers={"Origin": SHOP, "Access-Control-Request-Method": "PUT"})

    assert answer.status == 204
    assert answer.headers["Access-Control-Allow-Origin"] == SHOP
    assert answer.headers["Access-Control-Allow-Methods"] == "GET, HEAD, PUT"
    assert answer.headers["Access-Control-Allow-Headers"] == "x-token"
    assert answer.headers["Access-Control-Max-Age"] == "60"


@pytest.mark.parametrize("path, status", [("/", 200), ("/error", 500), ("/nowhere", 404)])
def test_answers_of_every_kind_have_cors_headers(serve, path, status):
    answer = serve(Service, WEB_SERVER_CORS={"origins": [SHOP]}).ask("GET", path, headers={"Origin": SHOP})

    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (status, SHOP)


def test_a_reused_response_has_each_cors_header_once(serve):
    from werkzeug.wrappers import Response

    class Same:
        name = "same"
        response = Response("same", headers={"Vary": "Accept"})

        @http("GET", "/")
        def get(self, request):
            return self.response

    web = serve(Same, WEB_SERVER_CORS={"origins": [SHOP]})
    answers = [web.ask("GET", "/", headers={"Origin": SHOP}) for _ in range(3)]

    assert [answer.headers["Vary"] for answer in answers] == ["Accept, Origin"] * 3
    assert answers[-1].headers.get_all("Access-Control-Allow-Origin") == [SHOP]


@pytest.mark.parametrize(
    "value, sentence",
    [
        ("*", "a mapping with `origins` is needed"),
        ({}, "a mapping with `origins` is needed"),
        ({"origins": [7]}, r"origins of WEB_SERVER_CORS is \[7\]; a list of texts is needed"),
        ({"origins": ["*"], "credentials": True}, "browsers refuse that, so name the origins"),
        ({"origins": ["*"], "credentials": "yes"}, "credentials of WEB_SERVER_CORS is 'yes'; true or false is needed"),
        ({"origins": ["*"], "max_age": "1h"}, "max_age of WEB_SERVER_CORS is '1h'; a whole number of seconds is needed"),
        ({"origins": ["*"], "header": []}, "WEB_SERVER_CORS has no option 'header'; did you mean 'headers'?"),
    ],
)
def test_invalid_settings_are_reported(value, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        Cors.read({"WEB_SERVER_CORS": value})
