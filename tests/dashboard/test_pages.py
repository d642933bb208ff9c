"""The dashboard over HTTP, in front of a real cluster: who may read it, and who may change something."""

import itertools

import pytest

from tests.stage import until
from zmqservices.cli.schema import contracts_of
from zmqservices.dashboard.access import HEADER
from zmqservices.dashboard.pages import Pages
from zmqservices.dashboard.server import Dashboard
from zmqservices.events import EventDispatcher, event_handler
from zmqservices.exceptions import CommandError
from zmqservices.membership import Membership
from zmqservices.observability.node_operators import NodeOperators
from zmqservices.observability.statistics import Statistics
from zmqservices.probes import attached
from zmqservices.rpc import rpc
from zmqservices.standalone.rpc import ServiceRpcProxy

DROP = {"action": "drop", "source": "orders", "group": "mails.send:placed", "seqs": []}
OWN = {"Content_Type": "application/json", HEADER.replace("-", "_"): "1"}


class Orders:
    name = "orders"
    dispatch = EventDispatcher()

    @rpc
    def place(self, number):
        self.dispatch("placed", number)


class Mails:
    name = "mails"

    @event_handler("orders", "placed", max_deliveries=1)
    def send(self, number):
        raise ConnectionError(f"451 <b>{number}</b>")


# --- who may read ----------------------------------------------------------------------------------------------------


def test_its_files_and_nothing_else(dashboard):
    served = dashboard()

    page = served.ask("GET", "/")
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert served.ask("HEAD", "/app.js").body == b""
    for path in ("/../server.py", "/assets/app.js", "/%2e%2e/server.py", "/__init__.py", "/api/", "//"):
        assert served.ask("GET", path).status in (400, 404), path
    assert served.ask("PUT", "/").status == 405


@pytest.mark.parametrize("path", ["/", "/app.js", "/api/stream", "/api/details?service=orders"])
def test_a_name_that_somebody_pointed_here_is_refused(dashboard, path):
    answer = dashboard(may_operate=True).ask("GET", path, Host="evil.example")

    assert answer.status == 403
    assert "'evil.example', which is no name of this server" in answer.json["error"]


def test_pages_of_other_sites_read_nothing_and_may_link_to_it(dashboard):
    served = dashboard()

    assert served.ask("GET", "/api/stream", Sec_Fetch_Site="cross-site").status == 403
    assert served.ask("GET", "/api/stream", Origin="http://evil.example").status == 403
    assert served.ask("GET", "/", Sec_Fetch_Site="cross-site").status == 200


def test_another_name_may_be_allowed(dashboard):
    served = dashboard(names=["Map.Example"])

    assert served.ask("GET", "/", Host="map.example").status == 200


# --- the stream ------------------------------------------------------------------------------------------------------


class Collected:
    """Stands for a collector, whose timeline changes with the third picture."""

    number = 7

    def next_picture(self, after, timeout):
        self.number = after + 1
        self.timeline_version = self.number // 10
        self.timeline = b"[%d]" % self.timeline_version
        return b"{}"


def test_a_page_is_sent_the_timeline_first_and_when_it_has_changed():
    page = Pages(Collected(), may_operate=False, is_local=True)
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/api/stream", "HTTP_HOST": "localhost"}

    hello, *told = itertools.islice(page(environ, lambda status, headers: None), 5)

    assert b"event: hello" in hello
    timeline = b"event: timeline\ndata: [%d]\n\n"
    assert told == [timeline % 0 + b"data: {}\n\n", b"data: {}\n\n", timeline % 1 + b"data: {}\n\n", b"data: {}\n\n"]


# --- where it listens ------------------------------------------------------------------------------------------------


def test_others_reach_it_only_if_that_is_said(cluster_config):
    with pytest.raises(CommandError, match=r"--address '0\.0\.0\.0' can be reached by others.* --allow-remote"):
        Dashboard(cluster_config, "0.0.0.0")


def test_others_never_get_to_operate(cluster_config):
    with pytest.raises(CommandError, match=r"--operate cannot be used with --address '0\.0\.0\.0'.* ssh tunnel"):
        Dashboard(cluster_config, "0.0.0.0", may_operate=True, allows_remote=True)


def test_a_port_that_is_taken(dashboard, cluster_config):
    port = int(dashboard().host.rpartition(":")[2])

    with pytest.raises(CommandError, match=rf"cannot listen at 127\.0\.0\.1:{port}: address already in use; --port 0 takes"):
        Dashboard(cluster_config, port=port).start()


# --- what it shows and changes ---------------------------------------------------------------------------------------


@pytest.fixture
def place(serve, cluster_config, tmp_path):
    """A cluster whose node answers as one of `zmqservices run` does. Call it to place an order whose mail cannot be sent."""
    journal = {"JOURNAL_FOLDER": str(tmp_path / "journal")}
    containers = [serve(cls, **journal) for cls in (Orders, Mails)]
    NodeOperators(containers[0].shared_extensions[Membership].join(), containers, contracts_of).serve()

    def place(number):
        with ServiceRpcProxy("orders", cluster_config, timeout=20) as orders:
            orders.place(number)

    with attached(Statistics()):
        yield place


def test_the_contract_of_a_service(dashboard, place):
    served = dashboard()
    until(lambda: [one["name"] for one in served.picture.get("services", ())] == ["mails", "orders"], timeout=30)

    contract = served.ask("GET", "/api/contract?service=orders").json

    assert (contract["openapi"], contract["problems"]) == (None, [])
    assert "place" in str(contract["asyncapi"]["operations"])


def test_the_whole_way_of_a_dead_letter(dashboard, place):
    reader, operator = dashboard(), dashboard(may_operate=True)
    place(7)

    def dead():
        return [one["dead_letters"] for one in operator.picture.get("events", ())]

    until(lambda: dead() == [1], timeout=30)
    letters = operator.ask("GET", "/api/dead-letters?source=orders&group=mails.send:placed").json["dead_letters"]
    assert [(one["data"], one["error"]["value"]) for one in letters] == [(7, "451 <b>7</b>")]
    details = operator.ask("GET", "/api/details?service=mails").json
    assert [(one["method"], one["failed"]) for one in details["methods"]] == [("send", {"ConnectionError": 1})]
    assert "451 <b>7</b>" in details["errors"][0]["traceback"]

    # Without --operate, and from pages of others, nothing changes.
    refused = reader.ask("POST", "/api/dead-letters", DROP, **OWN)
    assert (refused.status, "start it with --operate" in refused.json["error"]) == (403, True)
    for headers in (
        {**OWN, "Origin": "http://evil.example"}, {**OWN, "Sec_Fetch_Site": "cross-site"}, {**OWN, "Host": "evil.example"},
        {"Content_Type": "application/json"},
    ):  # fmt: skip
        assert operator.ask("POST", "/api/dead-letters", DROP, **headers).status == 403, headers
    assert operator.ask("POST", "/api/dead-letters", DROP, **{**OWN, "Content_Type": "text/plain"}).status == 415
    assert operator.ask("GET", "/api/dead-letters?source=orders&group=mails.send:placed").json["dead_letters"] == letters

    # It is delivered once more, fails again, and is dropped.
    done = operator.ask("POST", "/api/dead-letters", {**DROP, "action": "requeue", "seqs": [letters[0]["seq"]]}, **OWN)
    assert done.json == {"count": 1, "problems": []}
    until(lambda: _failures(operator) == 2, timeout=30)
    until(lambda: dead() == [1], timeout=30)
    assert operator.ask("POST", "/api/dead-letters", DROP, Origin=f"http://{operator.host}", **OWN).json["count"] == 1
    until(lambda: dead() == [0], timeout=30)


def _failures(served):
    methods = served.ask("GET", "/api/details?service=mails").json["methods"]
    return sum(sum(one["failed"].values()) for one in methods)


@pytest.mark.parametrize("change, said", [
    ({"action": "forget"}, "action is 'forget'; one of requeue, drop is needed"),
    ({"source": 7}, "source is 7; a text is needed"),
    ({"group": ""}, "group is ''; a text is needed"),
    ({"seqs": None}, "seqs is None; a list of numbers is needed"),
    ({"seqs": ["1"]}, "seqs is ['1']; a list of numbers is needed"),
    ({"seqs": [True]}, "seqs is [True]; a list of numbers is needed"),
    ({"journal": 7}, "journal is 7; a text is needed, or nothing"),
])  # fmt: skip
def test_a_wrong_request_says_what_is_needed(dashboard, change, said):
    answer = dashboard(may_operate=True).ask("POST", "/api/dead-letters", {**DROP, **change}, **OWN)

    assert answer.status == 400
    assert said in answer.json["error"]


def test_what_is_not_there(dashboard):
    served = dashboard(may_operate=True)

    assert served.ask("GET", "/api/details?service=nobody").status == 404
    assert served.ask("GET", "/api/details").json == {"error": "the parameter service is missing"}
    assert served.ask("GET", "/api/contract?service=nobody").status == 404
    assert served.ask("GET", "/api/contract").json == {"error": "the parameter service is missing"}
    assert served.ask("POST", "/api/dead-letters", DROP, **OWN).status == 404
