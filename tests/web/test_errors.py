"""Errors are answered as JSON to clients that accept JSON, and as text to others."""

import json

import pytest
from werkzeug.exceptions import HTTPException, NotFound, Unauthorized
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request, Response

from zmqservices.web.handlers import HttpRequestHandler, http
from zmqservices.web.results import error_response

JSON = "application/json"
PROBLEM = "application/problem+json"


class Broken(HTTPException):
    code = 418

    def get_body(self, environ=None, scope=None):
        raise RuntimeError


class Rewording(HttpRequestHandler):
    def response_from_exception(self, exc):
        response = super().response_from_exception(exc)
        response.set_data("in other words")
        return response


class Service:
    name = "service"

    @http("GET", "/<kind>", expected_exceptions=KeyError)
    def get(self, request, kind):
        raise {
            "missing": NotFound("there is no <invoice>"),
            "mistake": KeyError("number"),
            "fault": RuntimeError("the secret"),
            "own": Unauthorized(response=Response("mine", 401)),
            "broken": Broken(),
            "odd": NotFound({"a": 1}),
        }[kind]

    @http("POST", "/posted")
    def post(self, request):
        return "posted"

    @Rewording.decorator("GET", "/reworded")
    def reworded(self, request):
        raise NotFound


@pytest.fixture
def web(serve):
    return serve(Service)


@pytest.mark.parametrize(
    "path, problem",
    [
        ("/missing", {"status": 404, "title": "Not Found", "detail": "there is no <invoice>"}),
        ("/mistake", {"status": 400, "title": "Bad Request", "detail": "KeyError: 'number'"}),
        ("/fault", {"status": 500, "title": "Internal Server Error", "detail": "Internal Server Error"}),
        ("/broken", {"status": 500, "title": "Internal Server Error", "detail": "Internal Server Error"}),
        ("/odd", {"status": 404, "title": "Not Found", "detail": "{'a': 1}"}),
        ("/a/b", {"status": 404, "title": "Not Found", "detail": NotFound.description}),
    ],
)
def test_an_error_for_a_client_that_accepts_json(web, path, problem):
    answer = web.get(path, Accept=JSON)

    assert answer.status == problem["status"]
    assert answer.headers["Content-Type"] == JSON
    assert answer.headers["Content-Length"] == str(len(answer.body))
    assert answer.headers["Vary"] == "Accept"
    assert answer.json == problem


@pytest.mark.parametrize(
    "path, text",
    [
        ("/mistake", "Error: KeyError: 'number'\n"),
        ("/fault", "Error: Internal Server Error\n"),
        ("/broken", "Error: Internal Server Error\n"),
    ],
)
@pytest.mark.parametrize("accept", ["*/*", "text/plain", "text/html,application/xhtml+xml,*/*;q=0.8"])
def test_the_same_error_for_other_clients_is_unchanged_text(web, path, text, accept):
    assert web.get(path, Accept=accept).text == text
    assert web.get(path).text == text


def test_the_headers_of_an_error_are_kept(web):
    answer = web.ask("DELETE", "/posted", headers={"Accept": JSON})

    assert answer.json["status"] == 405
    assert sorted(answer.headers["Allow"].split(", ")) == ["GET", "HEAD", "POST"]


def test_a_stopping_service_answers_503_in_json(web):
    web.server.is_draining = True

    answer = web.get("/missing", Accept=JSON)

    assert answer.json == {"status": 503, "title": "Service Unavailable", "detail": "service is shutting down"}
    assert answer.headers["Retry-After"] == "1"


def test_an_error_body_made_by_a_service_is_not_changed(web):
    assert web.get("/own", Accept=JSON).text == "mine"
    assert web.get("/reworded", Accept=JSON).text == "in other words"


@pytest.mark.parametrize(
    "accept, mimetype",
    [
        ("", "text/html"),
        ("*/*", "text/html"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", "text/html"),
        ("application/*", "text/html"),
        (JSON, JSON),
        ("application/json, text/plain, */*", JSON),
        ("text/html;q=0.5, application/json", JSON),
        ("text/html, application/json;q=0.5", "text/html"),
        ("application/json;q=0", "text/html"),
        (PROBLEM, PROBLEM),
        ("application/problem+json, application/json", PROBLEM),
        ("application/vnd.api+json", JSON),
        ("nonsense;;q=x,,", "text/html"),
    ],
)
def test_the_accept_header_decides_about_json(accept, mimetype):
    request = Request(EnvironBuilder(headers={"Accept": accept}).get_environ())
    response = error_response(NotFound(), ()).for_client(request.accept_mimetypes)

    assert response.mimetype == mimetype
    assert (mimetype == "text/html") == (not response.get_data().startswith(b"{"))
    if mimetype != "text/html":
        assert json.loads(response.get_data())["status"] == 404


def test_a_route_may_lack_its_first_slash(serve):
    class Gateway:
        name = "gateway"

        @http("GET", "url")
        def url(self, request):
            return "found"

        @http("GET", "items/<int:number>")
        def item(self, request, number):
            return str(number)

    web = serve(Gateway)

    assert web.get("/url").text == "found"
    assert web.get("/items/3").text == "3"
    assert HttpRequestHandler("GET", "url").url == "url"
