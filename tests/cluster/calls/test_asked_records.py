"""A client that only knows an address asks the node there for its records."""

import dataclasses

import discovery
from tests.cluster.calls.world import NAMESPACE, Serving
from zmqservices.cluster.own_records import OwnRecords
from zmqservices.wire.messages import Error, Hello, Welcome


class Directory:
    """Takes everything."""

    def __init__(self):
        self.told = []

    def announce(self, record):
        self.told.append(record)

    def withdraw(self, instance):
        self.told.append(instance)


def asked(client, wanted=True, namespace=NAMESPACE):
    """What the node answers to a HELLO that asks."""
    client.say(Hello(1, 0, "client", namespace, {"records": wanted}))
    return client.heard()


def listed(messages):
    (welcome,) = messages
    assert type(welcome) is Welcome
    return [(entry["instance"], entry["state"]) for entry in welcome.info["records"]]


def new_record(**fields):
    return discovery.Record("maths", "one", "server", methods={"add": {"args": ("a", "b")}}, **fields)


def test_clients_that_ask_get_records_and_get_them_again_after_a_change():
    serving = Serving()
    records = OwnRecords(Directory())
    serving.server.records = records.described
    records.on_change = serving.server.connections.welcome_asking
    asking, other = serving.connect(is_greeted=False), serving.connect()
    records.announce(new_record())

    assert listed(asked(asking)) == [("one", "UP")]
    assert "records" not in (other.heard() or [Welcome(1, 0, "", "", {})])[0].info
    records.announce(new_record(state="DRAINING", version=1))
    assert listed(asking.heard()) == [("one", "DRAINING")]
    records.withdraw("one")
    assert listed(asking.heard()) == []
    # Others are not told of what they did not ask for.
    assert other.heard() == []


def test_records_travel_as_plain_values():
    records = OwnRecords(Directory())
    records.announce(new_record())

    (described,) = records.described()

    assert described == {**new_record().to_dict(), "methods": {"add": {"args": ["a", "b"]}}}
    assert discovery.Record.from_dict(described) == dataclasses.replace(new_record(), methods={"add": {"args": ["a", "b"]}})


def test_the_directory_gets_the_records_as_well():
    directory = Directory()
    records = OwnRecords(directory)

    records.announce(new_record())
    records.withdraw("one")
    records.withdraw("nobody")

    assert directory.told == [new_record(), "one", "nobody"]


def test_another_namespace_is_refused_unless_all_are_asked_for():
    serving = Serving()

    (refusal,) = asked(serving.connect(is_greeted=False), namespace="other")
    (welcome,) = asked(serving.connect(is_greeted=False), "all", namespace="")

    assert type(refusal) is Error
    assert (welcome.namespace, welcome.info["records"]) == (NAMESPACE, [])
