"""The collector of the dashboard: what it notices at once, and records that nobody can use."""

import json
from contextlib import closing

from tests.dashboard.stage import answer, at, listed
from tests.discovery.stage import House, record, registries
from tests.stage import until
from zmqservices import probes
from zmqservices.dashboard import collector as collecting
from zmqservices.dashboard.collector import Collector


def test_a_record_that_names_no_usable_address_is_a_problem_of_its_own():
    with registries() as (server,), closing(House(server.url)) as house:
        announcing = house.open()
        announcing.announce(record("one", endpoints={"rpc": "nonsense"}))
        assert announcing.flush(30)
        collector = Collector({"DIRECTORY": server.url})
        collector.start()
        try:
            until(lambda: any(node.problem for node in collector.state.nodes.values()), 30)
            (node,) = collector.state.nodes.values()
            assert node.problem.startswith("ConfigurationError: ") and "'nonsense'" in node.problem
            assert not any(greenlet.dead for greenlet in collector._asking.values())
            assert collector.number == 0, "a picture was made that nobody waited for"
            assert b"ConfigurationError" in collector.next_picture(0, 30)
        finally:
            collector.stop()


def test_a_broken_connection_is_shown_at_once_and_not_with_the_next_question(monkeypatch):
    # With pauses of an hour, only what is noticed at once makes a new picture.
    for name in ("INTERVAL", "LONGEST_PAUSE"):
        monkeypatch.setattr(collecting, name, 3600.0)
    monkeypatch.setattr(Collector, "_watch", lambda self: None)
    with registries() as (server,):
        collector = Collector({"DIRECTORY": server.url})
        collector.start()
        try:
            collector.state.listed([listed("orders", "o1")], 100.0)
            collector.state.answered(at(1), answer(100.0, [("orders", "o1", [])]), 100.0)

            probes.attached_of(collecting._Links).link_lost("n1", "tcp://127.0.0.1:1")

            picture = json.loads(collector.next_picture(collector.number, 30))
            assert [one["state"] for one in picture["services"][0]["instances"]] == ["lost"]
        finally:
            collector.stop()


def test_a_contract_is_that_of_an_instance_that_has_one(monkeypatch):
    document = {"asyncapi": "3.0.0"}
    told = [
        (None, "tcp://127.0.0.1:1: RpcTimeout"),
        ({"instances": [{"service": "orders", "asyncapi": document}], "problem": ""}, ""),
        ({"instances": [{"service": "orders"}], "problem": ""}, ""), ({"instances": [], "problem": "pydantic is missing"}, ""),
    ]  # fmt: skip
    monkeypatch.setattr(Collector, "_ask_all", lambda *args: told)
    with registries() as (server,):
        collector = Collector({"DIRECTORY": server.url})
        collector.state.listed([listed("orders", "o1")], 100.0)

        found = collector.contract("orders")

    assert (found["openapi"], found["asyncapi"]) == (None, document)
    assert found["problems"] == ["tcp://127.0.0.1:1: RpcTimeout", "pydantic is missing"]
