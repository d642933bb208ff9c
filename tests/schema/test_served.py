"""/openapi.json: the document of the services at an address, served beside their methods."""

import gevent
import pytest
from openapi_spec_validator import validate

from tests.web.stage import Web
from zmqservices.cli.run import serve_documents
from zmqservices.containers import ServiceContainer
from zmqservices.exceptions import ConfigurationError
from zmqservices.runners import ServiceRunner
from zmqservices.schema import openapi, serve_openapi
from zmqservices.timer import timer
from zmqservices.web.handlers import http


class Invoices:
    """Keeps invoices."""

    name = "invoices"

    @http("GET", "/invoices/<int:number>")
    def get(self, request, number: int) -> dict[str, int]:
        """One invoice."""
        return {"number": number}


class Customers:
    name = "customers"

    @http("GET", "/customers/<int:number>")
    def get(self, request, number: int) -> dict[str, str]:
        return {}


class Clock:
    name = "clock"

    @timer(3600)
    def tick(self):
        pass


@pytest.fixture
def run():
    """Run these services at one address, with these settings, as `zmqservices run` does. Returns the first one's web server."""
    runners, webs = [], []

    def run(*classes, **settings):
        runner = ServiceRunner({"WEB_SERVER_ADDRESS": "127.0.0.1:0", **settings})
        for cls in classes:
            runner.add_service(cls)
        runners.append(runner)
        serve_documents(runner)
        runner.start()
        webs.append(Web(next(iter(runner.containers))))
        return webs[-1].connect()

    with gevent.Timeout(120):
        yield run
        for web in webs:
            web.close()
        for runner in runners:
            runner.stop()


def test_the_document_is_served_and_valid(run):
    connection = run(Invoices, OPENAPI=True)

    answer = connection.ask("GET", "/openapi.json")

    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    validate(answer.json)
    assert answer.json == openapi(Invoices)
    assert answer.json["paths"]["/invoices/{number}"]["get"]["summary"] == "One invoice."
    assert connection.ask("GET", "/invoices/7").json == {"number": 7}
    head = connection.ask("HEAD", "/openapi.json")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(answer.body)))
    assert connection.ask("POST", "/openapi.json").status == 405


def test_services_at_one_address_share_a_document(run):
    connection = run(Invoices, Clock, Customers, OPENAPI=True)

    document = connection.ask("GET", "/openapi.json").json

    validate(document)
    assert document["info"]["title"] == "invoices, customers"
    assert set(document["paths"]) == {"/invoices/{number}", "/customers/{number}"}


@pytest.mark.parametrize("settings", [{}, {"OPENAPI": False}])
def test_without_the_setting_there_is_no_such_page(run, settings):
    assert run(Invoices, **settings).ask("GET", "/openapi.json").status == 404


def test_a_service_without_http_methods_has_no_document(container_factory):
    container = container_factory(Clock, {})

    serve_openapi([container])

    assert openapi(Clock) is openapi(Clock, Clock) is None


def test_a_route_of_the_services_own_at_that_path_is_told_at_the_start():
    class Own:
        name = "own"

        @http("GET", "/openapi.json")
        def document(self, request):
            return "{}"

    container = ServiceContainer(Own, {"WEB_SERVER_ADDRESS": "127.0.0.1:0"})
    serve_openapi([container])
    try:
        with pytest.raises(ConfigurationError, match="both answer GET '/openapi.json'; one of them has to go"):
            container.start()
    finally:
        container.kill()


@pytest.mark.parametrize(
    ("config", "missing", "text"),
    [
        ({"OPENAPI": "perhaps"}, False, "OPENAPI is 'perhaps'"),
        ({"OPENAPI": True}, True, "OPENAPI is true, and .*pip install zmqservices.schema"),
    ],
)
def test_a_wrong_setting_and_a_missing_extra_are_told(monkeypatch, config, missing, text):
    runner = ServiceRunner(config)
    runner.add_service(Clock)
    if missing:
        import sys

        for name in [name for name in sys.modules if name.startswith("zmqservices.schema")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "pydantic", None)

    with pytest.raises(ConfigurationError, match=text):
        serve_documents(runner)
