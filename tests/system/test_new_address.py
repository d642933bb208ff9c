"""A host gets another address while services run, as by DHCP: callers find them there within a lease, without a restart."""

import os
import sys

import pytest

from tests.system.clusters import QUICK
from tests.system.hosts import Hosts, why_not
from tests.system.processes import eventually
from tests.system.remote import Remote

PORT = 4190


@pytest.fixture
def hosts():
    reason = why_not()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(f"CI must test hosts: {reason}")
    if reason:
        pytest.skip(reason)
    with Hosts(2) as two:
        yield two


@pytest.mark.parametrize("bound", [{}, {"BIND_ADDRESS": "tcp://0.0.0.0:4000"}], ids=["at the route", "everywhere"])
def test_services_are_found_at_the_new_address_within_a_lease(stage, hosts, tallies, tmp_path, bound):
    here, there = hosts
    url = f"tcp://{here.host}:{PORT}"
    registry = [*here.prefix, sys.executable, "-m", "discovery", "serve", "--bind", url, "--ttl", "2"]
    stage.start("registry", registry).has_said("serving at")
    settings = {**QUICK, **bound, "TALLY": tallies.folder, "JOURNAL_FOLDER": tmp_path / "journals"}
    definitions = [part for key, value in settings.items() for part in ("-d", f"{key}={value}")]
    command = [*there.prefix, sys.executable, "-m", "zmqservices", "run", "tests.system.services.orders", *definitions]
    orders = stage.start("orders", command, {"ZMQSERVICES_DIRECTORY": url})
    mails = [*here.prefix, sys.executable, "-m", "zmqservices", "run", "tests.system.services.mails", *definitions]
    stage.start("mails", mails, {"ZMQSERVICES_DIRECTORY": url}).has_said("Services started")
    orders.has_said("Services started")
    client = Remote.start(stage, {"DIRECTORY": url, **QUICK}, here.prefix)
    assert client.call("orders.publish", 0, 10, timeout=20)["value"] == orders.pid
    tallies.wait_until_handled(10)

    there.lose_address()
    new = there.add_address()

    # The same process, as its id shows, at another address.
    orders.has_said(f"this process is reached at {new} from now on, no longer at {there.address}")
    eventually(lambda: client.call("orders.whoami", timeout=2).get("value") == orders.pid, what="calls arrive there")
    eventually(lambda: client.call("orders.publish", 10, 10, timeout=20).get("value") == orders.pid, what="events are published")
    tallies.wait_until_handled(20)
    # Nothing is left at the former address: others that come now are told of the new one alone.
    inspect = [*here.prefix, sys.executable, "-m", "zmqservices", "inspect", "orders", "--json", "--directory", url]
    shown = stage.start("inspect", inspect)
    assert shown.wait() == 0
    assert f"tcp://{new}:" in shown.output() and f"tcp://{there.address}:" not in shown.output()
