"""`zmqservices ls --ejections` asks nodes which instances they have ejected, and marks those instances."""

import json
import re

import pytest
from click.testing import CliRunner

from discovery.model import Record, Seen, View
from tests.ports import free_port
from zmqservices.cli import ls, nodes
from zmqservices.cli.ls import add_ejections, ejected_lines, ls_command, summaries, table
from zmqservices.cli.nodes import NodeAnswer


def view(*instances, service="maths"):
    records = [
        Record(service, name, incarnation=number, endpoints={"rpc": f"tcp://10.0.0.5:{number}"})
        for number, name in enumerate(instances, 1)
    ]
    return View(records={one.instance: Seen(one, age=0.0, suspect=False) for one in records})


def answer(node, service="maths", **conditions):
    """The answer of a node that calls these instances."""
    instances = [
        {"instance": name, "condition": condition, "why": "5 calls in a row failed" if condition == "ejected" else ""}
        for name, condition in conditions.items()
    ]
    told = {"node": node, "instances": [], "callees": [{"service": service, "instances": instances}]}
    return NodeAnswer(f"tcp://{node}:1", ["shop"], 0.001, told, "")


SILENT = NodeAnswer("tcp://d:1", ["shop"], 3.0, None, "RpcTimeout: too late")
ANSWERS = [answer("a", one="up", two="ejected"), answer("b", one="up", two="ejected"), answer("c", one="up", two="up"), SILENT]


def marked(found, answers):
    services = summaries(found)
    add_ejections(services, found, answers)
    return services


def test_an_instance_lists_the_callers_that_ejected_it_and_counts_all_that_know_it():
    (maths,) = marked(view("one", "two"), [*ANSWERS, answer("e", one="up")])

    assert maths["ejected"] == [
        {
            "instance": "two", "address": "tcp://10.0.0.5:2", "callers": 3,
            "ejected_by": {"a": "5 calls in a row failed", "b": "5 calls in a row failed"},
        }
    ]  # fmt: skip


def test_ejections_are_shown_below_the_services():
    services = marked(view("one", "two"), ANSWERS)

    assert table(services).splitlines() == [
        "SERVICE  INSTANCES  UP  EJECTED  ADDRESSES",
        "maths    2          2   1        tcp://10.0.0.5:1 tcp://10.0.0.5:2",
    ]
    assert ejected_lines(services) == ["instance two of maths at tcp://10.0.0.5:2: ejected by 2 of 3 callers"]


def test_without_ejections_there_is_no_line():
    services = marked(view("one"), [answer("a", one="up")])

    assert (services[0]["ejected"], ejected_lines(services)) == ([], [])
    assert table(services).splitlines()[1] == "maths    1          1   0        tcp://10.0.0.5:1"


def test_answers_of_earlier_releases_and_of_removed_instances_are_accepted():
    old = NodeAnswer("tcp://a:1", ["shop"], 0.001, {"node": "a", "instances": []}, "")

    (maths,) = marked(view("one"), [old, answer("b", gone="ejected"), answer("c", service="words", one="ejected")])

    assert maths["ejected"] == []


def test_without_answers_the_listing_claims_nothing_about_ejections():
    services = marked(view("one"), [SILENT])

    assert (services[0]["ejected"], ejected_lines(services)) == (None, [])
    assert table(services).splitlines()[1] == "maths    1          1   -        tcp://10.0.0.5:1"


def test_texts_of_peers_move_no_cursor():
    services = marked(view("evil\x1b[2J\n"), [answer("a", **{"evil\x1b[2J\n": "ejected"})])

    (line,) = ejected_lines(services)
    assert not re.search("[\x00-\x1f]", line) and "ejected by 1 of 1 callers" in line


class Listing:
    """A directory that has answered with a view."""

    def __init__(self, found):
        self.view = lambda: found

    def __enter__(self):
        return self

    def __exit__(self, *args):
        pass

    def describe(self):
        return "a listing"


@pytest.fixture
def asked(monkeypatch):
    """The methods of nodes that were asked for."""
    asked = []
    monkeypatch.setattr(ls, "looked_up", lambda settings, timeout: Listing(view("one", "two")))
    monkeypatch.setattr(nodes, "ask", lambda settings, found, method, timeout: asked.append(method) or ANSWERS)
    return asked


def test_a_silent_node_is_named(asked):
    result = CliRunner().invoke(ls_command, ["--ejections"])

    assert (result.exit_code, asked) == (0, ["stats"])
    assert "ejected by 2 of 3 callers" in result.stdout
    assert result.stderr == "no answer from tcp://d:1 (shop): RpcTimeout: too late\n"


def test_without_the_option_no_node_is_asked(asked):
    result = CliRunner().invoke(ls_command, ["--json"])

    assert (result.exit_code, asked) == (0, [])
    assert "ejected" not in json.loads(result.stdout)[0]


def test_a_timeout_of_zero_leaves_nodes_no_time_to_answer(asked):
    result = CliRunner().invoke(ls_command, ["--ejections", "--timeout", "0"])

    assert (result.exit_code, asked) == (2, [])
    assert "--timeout is 0, so no node has time to answer" in result.stderr


SHOP = """
    import os, time
    import gevent
    from zmqservices.exceptions import RpcTimeout
    from zmqservices.rpc import RpcProxy, rpc


    class Maths:
        name = "maths"

        @rpc
        def add(self, a, b):
            gevent.sleep(float(os.environ.get("SLOW", 0)))
            return a + b


    class CallState(RpcProxy):
        def get_dependency(self, worker_ctx):
            return self.call_state


    class Shop:
        name = "shop"
        maths = RpcProxy("maths")
        call_state = CallState("maths")

        @rpc
        def call_until_one_is_ejected(self):
            deadline = time.monotonic() + 40
            while time.monotonic() < deadline:
                try:
                    self.maths.add.with_timeout(2)(2, 3)
                except RpcTimeout:
                    pass
                ejected = [
                    instance["instance"]
                    for service in self.call_state()
                    for instance in service["instances"]
                    if instance["condition"] == "ejected"
                ]
                if ejected:
                    return ejected
"""


@pytest.mark.system
@pytest.mark.timeout(180)
def test_an_instance_that_a_caller_ejected_is_marked(start, zmqservices, write):
    write("shop.py", SHOP)
    cluster = ("--directory", f"local:{free_port()}")
    # One failure is enough, and it is not over before the test is.
    settings = ("-d", "rpc_ejection_failures=1", "-d", "rpc_ejection=600")
    slow = start("run", "shop:Maths", *cluster, SLOW="600")
    slow.until("Services started")
    start("run", "shop:Maths", "shop:Shop", *cluster, *settings).until("Services started")

    # On a machine that stands still it may be the other instance.
    called = zmqservices("call", "shop.call_until_one_is_ejected", *cluster, "--timeout", "43")
    assert called.returncode == 0, called.stderr
    ejected = json.loads(called.stdout)
    told = zmqservices("ls", "--ejections", "--json", "--timeout", "20", *cluster)
    shown = zmqservices("ls", "--ejections", "--timeout", "20", *cluster)

    assert (told.returncode, told.stderr, shown.returncode) == (0, "", 0)
    maths, shop = json.loads(told.stdout)
    (marked,) = maths["ejected"]
    assert ([marked["instance"]], marked["callers"], shop["ejected"]) == (ejected, 1, [])
    assert list(marked["ejected_by"].values()) == ["1 calls in a row failed"]
    assert f"instance {ejected[0]} of maths at {marked['address']}: ejected by 1 of 1 callers" in shown.stdout
