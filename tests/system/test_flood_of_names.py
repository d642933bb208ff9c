"""Peers invent hundreds of names of every kind: counts, metrics, answers and the dashboard stay small."""

import json
import os
import re
import urllib.request
from contextlib import closing
from functools import partial
from http.client import HTTPConnection

import psutil
import pytest
import websocket
import zmq
from prometheus_client.parser import text_string_to_metric_families

from discovery import Record, open_directory
from tests.observability.otlp_endpoint import OtlpEndpoint
from tests.ports import free_port
from tests.system.processes import eventually
from zmqservices.cluster.operators import NODE
from zmqservices.exceptions import ZmqServicesError
from zmqservices.observability.node_address import NodeAddress
from zmqservices.observability.statistics import MOST_TYPES
from zmqservices.standalone.rpc import ServiceRpcProxy
from zmqservices.wire import envelope
from zmqservices.wire.messages import Hello

#: Names of each kind in one flood: more than the types of events and of errors that are told apart. Others cost more time.
NAMES, FEW = 150, 15

#: Seconds that anything here may take on a busy machine.
PATIENCE = 60.0


class Target:
    """The service with everything on, seen by those who flood it and by those who operate it."""

    def __init__(self, cluster, otlp):
        self.web_port, self.metrics_port = free_port(), free_port()
        self.process = cluster.run_one(
            "flooded", METRICS_ADDRESS=f"127.0.0.1:{self.metrics_port}", WEB_SERVER_ADDRESS=f"127.0.0.1:{self.web_port}",
            OTEL="true", ACCESS_LOG="true", LOG_FORMAT="json", slow_call_threshold="5", rpc_wait_for_service="0.2",
            JOURNAL_FOLDER=str(cluster.stage._folder / "journal"),
        )  # fmt: skip
        # Its handlers are listed before its methods are.
        self.record = eventually(lambda: [one for one in cluster.listing.records("flooded") if "rpc" in one.endpoints])[0]
        self.endpoint = self.record.endpoints["rpc"]
        self._cluster = cluster

    def series(self):
        """How many samples the page of metrics has, by metric; and the sum of one metric's samples."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=PATIENCE) as page:
            families = text_string_to_metric_families(page.read().decode())
        return {family.name: family.samples for family in families}

    def stats(self):
        config = self._cluster.client_config(DIRECTORY=NodeAddress(self.endpoint, None).only(NODE), serializer="msgpack")
        with ServiceRpcProxy(NODE, config, timeout=PATIENCE) as node:
            return node.stats()

    def log(self):
        """The lines of its log, each as its fields and its length."""
        # The last one may not be written to its end yet.
        lines = [line for line in self.process.output().split("\n")[:-1] if line.startswith("{")]
        return [(set(json.loads(line)), len(line)) for line in lines]

    def memory(self):
        return psutil.Process(self.process.pid).memory_info().rss / 1e6

    # --- the flood -------------------------------------------------------------------------------------------------------

    def flood(self, word):
        """Names of every kind, all of which begin with `word`."""
        names = [f"{word}{number}" for number in range(NAMES)]
        with self._cluster.client(timeout=PATIENCE) as remote:
            assert remote.flooded.ask(names[:FEW], "nothing") == FEW
            remote.flooded.fail_for_me(names)
            remote.flooded.tell(names)
            # Wrong names take a bounded share of a service's time, so few are waited for.
            for name in names[:FEW]:
                with pytest.raises(ZmqServicesError):
                    getattr(remote.flooded, name)()
        self._ask_for_pages(names)
        self._say_to_websocket(names)
        self._greet(word)

    def _ask_for_pages(self, names):
        with closing(HTTPConnection("127.0.0.1", self.web_port, timeout=PATIENCE)) as connection:
            for name in names:
                connection.request(name.upper() if len(name) % 2 else "GET", f"/{name}?{name}")
                connection.getresponse().read()

    def _say_to_websocket(self, names):
        socket = websocket.create_connection(f"ws://127.0.0.1:{self.web_port}/ws", timeout=PATIENCE)
        socket.recv()
        for name in names:
            socket.send(json.dumps({"method": name, "data": {}, "correlation_id": name}))
        for _ in names:
            assert not json.loads(socket.recv())["success"]
        socket.close()

    def _greet(self, word):
        context = zmq.Context()
        try:
            for number in range(FEW):
                socket = context.socket(zmq.DEALER)
                socket.linger = 0
                socket.routing_id = b"\x01" + os.urandom(16)
                socket.connect(self.endpoint)
                socket.send(envelope.encode(Hello(1, 0, f"{word}{number}" * 20, self._cluster.namespace, None)))
                assert socket.poll(PATIENCE * 1000)
                socket.close()
        finally:
            context.destroy(linger=0)


@pytest.fixture
def otlp(monkeypatch):
    endpoint = OtlpEndpoint()
    endpoint.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.url)
    yield endpoint
    endpoint.stop()


@pytest.mark.timeout(300)
def test_what_is_counted_and_shown_stays_small_and_true(cluster, otlp):
    target = Target(cluster, otlp)
    dashboard = cluster.command("dashboard", "--port", "0")
    dashboard.has_said("dashboard: http://", PATIENCE)
    url = dashboard.output().partition("dashboard: ")[2].split()[0]
    assert eventually(partial(shown, url, "flooded"), PATIENCE, "the dashboard shows it", 0.2)

    target.flood("first")
    after_one, stats_after_one, memory = target.series(), target.stats(), target.memory()
    target.flood("second")
    after_two, stats = target.series(), target.stats()

    # The second flood, of other names, adds nothing.
    grown = {name: len(found) - len(after_one[name]) for name, found in after_two.items()}
    assert {name: more for name, more in grown.items() if more > 40} == {}
    assert len(json.dumps(stats, default=str)) <= 1.2 * len(json.dumps(stats_after_one, default=str))
    assert target.memory() <= memory + 20
    assert max(map(len, after_two.values())) < 50 * MOST_TYPES
    # And what is told is true.
    assert sum_of(after_two, "rpc_client_call_duration_seconds", rpc_method="_OTHER/_OTHER") == 2 * FEW
    assert sum_of(after_two, "rpc_server_call_duration_seconds", rpc_method="flooded/fail") == 2 * NAMES
    assert sum_of(after_two, "messaging_client_operation_duration_seconds") == 2 * NAMES
    assert sum_of(after_two, "zmqservices_calls_refused", "_total") >= 2 * FEW
    requests = after_two["http_server_request_duration_seconds"]
    assert {one.labels["http_route"] for one in requests} <= {"_OTHER", "/ws", "/openapi.json"}
    assert sum_of(after_two, "http_server_request_duration_seconds", http_route="_OTHER") == 2 * NAMES
    (flooded,) = stats["instances"]
    failing = next(one for one in flooded["methods"] if one["method"] == "fail")
    assert (failing["count"], sum(failing["errors"].values())) == (2 * NAMES, 2 * NAMES)
    assert len(failing["errors"]) <= 21 and len(stats["errors"]) <= 20
    # Names are in the texts of the log, which are cut, and never name a field.
    log = target.log()
    fields = set().union(*(names for names, _ in log))
    assert [name for name in fields if re.search(r"(first|second)\d", name, re.IGNORECASE)] == []
    assert max(length for _, length in log) < 8000
    # A span is named by what is known.
    eventually(lambda: otlp.named("POST") or len(otlp.spans) > 1000, PATIENCE, "spans have come", 0.2)
    assert len({span.name for _, span in list(otlp.spans)}) < 40

    announce_many(cluster, target, url)


def sum_of(families, name, suffix="_count", **labels):
    return sum(
        one.value for one in families[name]
        if one.name == name + suffix and all(one.labels[key] == value for key, value in labels.items())
    )  # fmt: skip


def shown(url, service):
    """What the dashboard says of a service now, and of everything."""
    with urllib.request.urlopen(f"{url}api/stream", timeout=PATIENCE) as stream:
        picture = json.loads(next(line[6:] for line in stream if line.startswith((b'data: {"at"', b"data: {}"))))
    found = [one for one in picture.get("services", ()) if one["name"] == service and one["instances"]]
    return (found[0], picture) if found else None


def announce_many(cluster, target, url):
    """A peer announces services that nobody runs; what the map and `top` say of the others stays true."""
    with closing_directory(cluster) as directory:
        for number in range(NAMES):
            directory.announce(Record(
                service=f"zz{number}", instance=f"many{number}", namespace=cluster.namespace,
                endpoints={"rpc": target.endpoint}, node=target.record.node, ttl=60.0,
            ))  # fmt: skip
        assert directory.flush(PATIENCE)

        def all_are_shown():
            found = shown(url, "flooded")
            return found and len(found[1]["services"]) > NAMES and found

        service, picture = eventually(all_are_shown, PATIENCE, "all are shown", 0.5)
        # One address is one node, however many say that it is theirs.
        assert picture["problems"] == [] and picture["left_out"] == 0
        assert [one["state"] for one in service["instances"]] == ["up"]
        top = cluster.command("top", "--json", "--interval", "0.5", "--timeout", "20")
        assert top.wait(PATIENCE) == 0
        rows = json.loads(top.output())
        assert [one["state"] for one in rows if one["service"] == "flooded" and one["instance"]] == ["UP"]


def closing_directory(cluster):
    directory = open_directory(cluster.url, namespace=cluster.namespace, host=False)
    directory.start()
    return closing(Stopping(directory))


class Stopping:
    def __init__(self, directory):
        self._directory = directory

    def __getattr__(self, name):
        return getattr(self._directory, name)

    def close(self):
        self._directory.stop()
