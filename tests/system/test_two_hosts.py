"""Services on one host, their registry and their caller on another; the test pulls the cable between them."""

import json
import os
import sys
import time
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from tests.system.clusters import QUICK
from tests.system.hosts import Hosts, why_no_ipv6, why_not
from tests.system.processes import PATIENCE, eventually
from tests.system.remote import Remote

PORT = 4190


@pytest.fixture
def hosts(request):
    """Of IPv4, unless a test has another parameter."""
    is_ipv6 = getattr(request, "param", "ipv4") == "ipv6"
    reason = why_not() or (why_no_ipv6() if is_ipv6 else "")
    if reason and os.environ.get("CI") == "true":
        pytest.fail(f"CI must test two hosts: {reason}")
    if reason:
        pytest.skip(reason)
    with Hosts(2, ipv6=is_ipv6, with_this=True) as two:
        yield two


@pytest.fixture
def url(stage, hosts):
    """A registry on the first host."""
    url = f"tcp://{hosts[0].host}:{PORT}"
    command = [*hosts[0].prefix, sys.executable, "-m", "discovery", "serve", "--bind", url, "--ttl", "2"]
    stage.start("registry", command).has_said("serving at")
    return url


@pytest.fixture
def start_service(stage, hosts, url):
    """Start a service on the second host: DIRECTORY is all that it is told of the network."""

    def start(name):
        command = [*hosts[1].prefix, sys.executable, "-m", "zmqservices", "run", f"tests.system.services.{name}"]
        definitions = [part for key, value in QUICK.items() for part in ("-d", f"{key}={value}")]
        process = stage.start(name, [*command, *definitions], {"ZMQSERVICES_DIRECTORY": url})
        process.has_said("Services started")
        return process

    return start


@pytest.fixture
def client(stage, hosts, url):
    """A client on the first host."""
    return Remote.start(stage, {"DIRECTORY": url, **QUICK}, hosts[0].prefix)


@pytest.mark.parametrize("hosts", ["ipv4", "ipv6"], indirect=True)
def test_hosts_need_nothing_but_the_directory(stage, hosts, url, start_service):
    start_service("maths")
    start_service("relay")
    environment = {"ZMQSERVICES_DIRECTORY": url}

    def command(*arguments):
        return stage.start(arguments[0], [*hosts[0].prefix, sys.executable, "-m", "zmqservices", *arguments], environment)

    call = command("call", "relay.add", "2", "3")
    assert call.wait() == 0
    assert call.output().strip() == "5"
    inspect = command("inspect", "maths", "--json")
    assert inspect.wait() == 0
    (instance,) = json.loads(inspect.output())["instances"]
    assert instance["addresses"]["rpc"].startswith(f"tcp://{hosts[1].host}:")

    # The live map on the first host shows the services of the second one to a third, if others are allowed to read it.
    refused = command("dashboard", "--port", "0", "--address", hosts[0].address)
    assert refused.wait() != 0
    assert "--allow-remote" in refused.output()
    dashboard = command("dashboard", "--port", "0", "--address", hosts[0].address, "--allow-remote")
    dashboard.has_said("dashboard: http")
    url = urlsplit(dashboard.output().partition("dashboard: ")[2].strip())
    assert url.netloc.startswith(f"{hosts[0].host}:")
    wait_for_picture(url, lambda picture: {"maths", "relay"} <= {one["name"] for one in picture["services"] if has_answered(one)})
    assert status_of(url, "/", {"Host": "map.example"}) == 403
    assert status_of(url, "/", {}) == 200


def status_of(url, path, headers):
    connection = HTTPConnection(url.hostname, url.port, timeout=PATIENCE)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def has_answered(service):
    """Whether a node with an instance of the service has told the dashboard of its workers."""
    return any(one["state"] == "up" and one["workers"] for one in service["instances"])


def wait_for_picture(url, fits):
    """Read the stream of a dashboard until `fits` is true of a picture."""
    connection = HTTPConnection(url.hostname, url.port, timeout=PATIENCE)
    try:
        connection.request("GET", "/api/stream")
        stream = connection.getresponse()
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            kind, _, text = stream.readline().decode().partition(": ")
            picture = json.loads(text) if kind == "data" else {}
            if "services" in picture and fits(picture):
                return
    finally:
        connection.close()
    raise AssertionError(f"no such picture within {PATIENCE:g} s")


def test_a_cut_cable_fails_calls_in_time_and_calls_work_again_once_it_is_healed(hosts, start_service, client):
    start_service("maths")
    assert client.call("maths.add", 2, 3)["value"] == 5

    client.begin("maths.pause", 60, timeout=60)
    hosts[1].unplug()
    in_flight = client.end()
    later = client.call("maths.add", 2, 3, timeout=20)

    # Nobody said that the connection ended; the heartbeat noticed.
    assert in_flight["error"] == "MaybeExecuted", in_flight
    assert in_flight["seconds"] < 10.0
    # No instance can be reached: that is said as soon as `rpc_wait_for_service` is over, before the deadline.
    assert later["error"] in ("RemoteUnavailable", "UnknownService"), later
    assert later["seconds"] < 10.0

    hosts[1].plug()
    eventually(lambda: client.call("maths.add", 2, 3, timeout=2).get("value") == 5, what="calls work again")


def test_a_short_cut_is_not_even_noticed(hosts, start_service, client):
    start_service("maths")
    assert client.call("maths.add", 2, 3)["value"] == 5

    client.begin("maths.pause", 1.0)
    hosts[1].unplug()
    time.sleep(0.3)  # How long the cut lasts is what is tested.
    hosts[1].plug()

    assert "value" in client.end()
