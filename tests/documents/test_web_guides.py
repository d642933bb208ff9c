"""The examples of the guides to HTTP and WebSockets do what the pages say."""

import shutil

import gevent
import pytest

from tests.documents.examples import run_examples
from tests.documents.sessions import run, sessions
from tests.stage import until
from tests.web.sockets import Refused, WebSocket
from tests.web.stage import Web
from zmqservices.runners import run_services

ADDRESS = {"WEB_SERVER_ADDRESS": "127.0.0.1:0"}


def address_of(runner):
    return next(str(Web(container).address) for container in runner.containers)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_the_session_of_the_guide_to_http_goes_as_shown():
    names = run_examples("http.rst")
    shown = list(sessions("http.rst", "curl"))

    with run_services(ADDRESS, names["Invoices"], names["Accounts"]) as runner:
        address = address_of(runner)
        seen = [(line, run(line.replace("localhost:8000", address))) for line, _ in shown]

    assert len(shown) == 8
    assert seen == shown


def test_the_example_of_the_guide_to_websockets_goes_as_shown():
    names = run_examples("websocket.rst")

    with run_services(ADDRESS, names["Chat"]) as runner:
        said = gevent.get_hub().threadpool.spawn(names["talk"], address_of(runner)).get(timeout=10)

    assert said == ("connected", ["maths"])


def test_the_hooks_of_the_guide_to_websockets_go_as_shown():
    names = run_examples("websocket.rst")

    with run_services(ADDRESS, names["Lobby"]) as runner:
        (container,) = runner.containers
        address = Web(container).address
        with pytest.raises(Refused):
            WebSocket(address, "/ws")
        socket = WebSocket(address, "/ws?token=secret")
        assert len(names["present"]) == 1
        socket.close()
        until(lambda: not names["present"])
