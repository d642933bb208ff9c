"""What `ls` and `inspect` show of a view."""

import json

from discovery.model import Record, Seen, View
from zmqservices.cli.listing import describe, page, summaries, table

METHODS = {
    "hello": {"idempotent": True, "signature": "(name)", "doc": "Greet somebody.\n\nPolitely."},
    "add": {"idempotent": False, "signature": "(a, b=1)", "doc": ""},
    "bare": {},
}


def seen(service, instance, port, state="UP", suspect=False, incarnation=1, methods=METHODS):
    record = Record(
        service=service,
        instance=instance,
        incarnation=incarnation,
        endpoints={"rpc": f"tcp://127.0.0.1:{port}"},
        state=state,
        methods=methods,
        host="blue",
        pid=77,
    )
    return Seen(record, age=1.25, suspect=suspect)


VIEW = View(
    records={
        one.record.instance: one
        for one in [
            seen("words", "w1", 1),
            seen("hello", "h1", 2),
            seen("hello", "h2", 3, state="DRAINING", incarnation=2),
            seen("hello", "h3", 4, suspect=True),
        ]
    }
)


def test_services_are_listed_by_name():
    assert summaries(VIEW) == [
        {
            "service": "hello",
            "instances": 3,
            "up": 1,
            "addresses": ["tcp://127.0.0.1:2", "tcp://127.0.0.1:3", "tcp://127.0.0.1:4"],
        },
        {"service": "words", "instances": 1, "up": 1, "addresses": ["tcp://127.0.0.1:1"]},
    ]


def test_the_table_has_a_line_for_each_service():
    lines = table(summaries(VIEW)).splitlines()

    assert lines == [
        "SERVICE  INSTANCES  UP  ADDRESSES",
        "hello    3          1   tcp://127.0.0.1:2 tcp://127.0.0.1:3 tcp://127.0.0.1:4",
        "words    1          1   tcp://127.0.0.1:1",
    ]


def test_a_service_is_described_with_methods_and_instances():
    description = describe("hello", VIEW)

    assert list(description["methods"]) == ["add", "bare", "hello"]
    assert [one["instance"] for one in description["instances"]] == ["h1", "h3", "h2"]
    assert description["instances"][0] == {
        "instance": "h1",
        "state": "UP",
        "suspect": False,
        "addresses": {"rpc": "tcp://127.0.0.1:2"},
        "host": "blue",
        "pid": 77,
        "lease_age": 1.25,
        "ttl": 10.0,
        "zone": None,
        "weight": 1.0,
        "tags": {},
    }
    json.dumps(description)


def test_methods_are_those_of_the_newest_instance():
    view = View(
        records={
            "old": seen("hello", "old", 1, methods={"before": {}}),
            "new": seen("hello", "new", 2, incarnation=9, methods={"after": {}}),
        }
    )

    assert list(describe("hello", view)["methods"]) == ["after"]


def test_an_unknown_service_has_nothing():
    assert describe("nobody", VIEW) == {"service": "nobody", "methods": {}, "entrypoints": [], "instances": []}


def test_the_page_shows_signatures_docstrings_and_leases():
    text = page(describe("hello", VIEW))

    assert "  hello(name)  (idempotent)\n      Greet somebody.\n\n      Politely.\n" in text
    assert "  add(a, b=1)\n" in text
    assert "  bare(...)\n" in text
    assert "h3        UP (suspect)  rpc=tcp://127.0.0.1:4  blue  77   1.2 s of 10 s" in text
