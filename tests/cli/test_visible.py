"""`ls` and `inspect` show services that need no network as well, and do not show a killed one as alive."""

import json
import re
import signal

import psutil
import pytest
import requests

from tests.system.processes import eventually

pytestmark = pytest.mark.system

SHOP = """
    from zmqservices.events import event_handler
    from zmqservices.timer import timer
    from zmqservices.web.handlers import http


    class Web:
        name = "web"

        @http("GET", "/invoices/<int:number>")
        def get_invoice(self, request, number):
            'An invoice as text.'
            return str(number)

        @timer(interval=3600)
        def clean(self):
            pass


    class Mails:
        name = "mails"

        @event_handler("orders", "order.paid")
        def send(self, payload):
            pass
"""


def test_http_and_event_services_are_listed_and_described_and_seen_to_die(start, zmqservices, write):
    write("shop.py", SHOP)
    # The one that hosts the directory outlives the one that is killed.
    host = start("run", "shop:Mails")
    host.until("Services started")
    # It needs no network, and joins the cluster to be asked for its statistics.
    web = start("run", "shop:Web", "-d", "WEB_SERVER_ADDRESS=127.0.0.1:0", "-d", "STATISTICS=true", "-d", "OPENAPI=true")
    web.until("Services started")

    def list_both():
        found = {one["service"]: one for one in json.loads(zmqservices("ls", "--json").stdout)}
        return found if {"mails", "web"} <= found.keys() else None

    # A directory learns of an instance after it has begun to serve.
    listed = eventually(list_both, what="both are listed")

    assert listed["mails"] == {"service": "mails", "instances": 1, "up": 1, "addresses": []}
    assert listed["web"]["up"] == 1
    (address,) = listed["web"]["addresses"]
    assert requests.get(f"{address}/invoices/7", timeout=10).text == "7"
    (path,) = requests.get(f"{address}/openapi.json", timeout=10).json()["paths"].items()
    assert path[0] == "/invoices/{number}" and path[1]["get"]["summary"] == "An invoice as text."
    page = zmqservices("inspect", "web").stdout
    assert "GET /invoices/<int:number>" in page and "      An invoice as text.\n" in page
    assert re.search(r"timer +clean +every 3600 s, next in 3\d\d\d\.\d s", page)
    (counted,) = json.loads(zmqservices("stats", "web", "--json").stdout)
    assert [(one["method"], one["kind"], one["count"]) for one in counted["methods"]] == [("get_invoice", "http", 1)]
    (handler,) = json.loads(zmqservices("inspect", "mails", "--json").stdout)["entrypoints"]
    assert (handler["method"], handler["group"]) == ("send", "mails.send:order.paid")
    near = zmqservices("inspect", "webb")
    assert "did you mean 'web'?" in near.stderr and near.returncode == 3

    web.signal(signal.SIGKILL)
    web.popen.wait(30)

    after = {one["service"]: one["up"] for one in json.loads(zmqservices("ls", "--json").stdout)}
    assert after.get("web", 0) == 0
    assert after["mails"] == 1
    host.signal(signal.SIGTERM)
    assert host.end() == 0


def test_a_service_without_announcement_opens_no_network_socket(start, write):
    write("shop.py", SHOP)
    web = start("run", "shop:Web", "-d", "WEB_SERVER_ADDRESS=127.0.0.1:0", "-d", "ANNOUNCE=false")
    web.until("Services started")

    ports = psutil.Process(web.popen.pid).net_connections("tcp")

    assert len(ports) == 1  # Its web server's.
    web.signal(signal.SIGTERM)
    assert web.end() == 0


def test_without_a_host_of_the_directory_ls_lists_nothing_and_ends_at_once(zmqservices):
    done = zmqservices("ls")

    assert "no services in the namespace" in done.stderr
    assert done.returncode == 0
