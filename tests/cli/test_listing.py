"""`ls` and `inspect` show the services of a view."""

import json
import platform
import re
import socket
import subprocess
import sys

import pytest

from discovery.model import Record, Seen, View
from zmqservices.cli.alive import is_dead
from zmqservices.cli.inspection import complete_with, describe, page
from zmqservices.cli.jsontext import to_json
from zmqservices.cli.listing import did_you_mean, looked_up
from zmqservices.cli.ls import summaries, table
from zmqservices.cli.nodes import NodeAnswer
from zmqservices.constants import LISTED_ENTRYPOINTS_TAG
from zmqservices.exceptions import RemoteUnavailable

METHODS = {
    "hello": {"idempotent": True, "signature": "(name)", "doc": "Greet somebody.\n\nPolitely."},
    "add": {"idempotent": False, "signature": "(a, b=1)", "doc": ""},
    "bare": {},
    "keyed": {"idempotent": True, "hedge": True, "key": ["user", 0], "signature": "(user)"},
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


def test_a_description_of_a_service_has_methods_and_instances():
    description = describe("hello", VIEW)

    assert list(description["methods"]) == ["add", "bare", "hello", "keyed"]
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


def test_methods_come_from_the_newest_instance():
    view = View(
        records={
            "old": seen("hello", "old", 1, methods={"before": {}}),
            "new": seen("hello", "new", 2, incarnation=9, methods={"after": {}}),
        }
    )

    assert list(describe("hello", view)["methods"]) == ["after"]


def test_an_unknown_service_has_no_description():
    description = describe("nobody", VIEW)

    assert (description["methods"], description["entrypoints"], description["instances"]) == ({}, [], [])


def test_the_page_shows_signatures_docstrings_and_leases():
    text = page(describe("hello", VIEW))

    assert "  hello(name)  (idempotent)\n      Greet somebody.\n\n      Politely.\n" in text
    assert "  add(a, b=1)\n" in text
    assert "  bare(...)\n" in text
    assert "  keyed(user)  (idempotent, hedged, key: user)\n" in text
    assert "h3        UP (suspect)  rpc=tcp://127.0.0.1:4  blue  77   1.2 s of 10 s" in text


def answer(*instances):
    return NodeAnswer("tcp://127.0.0.1:2", ["hello"], 0.01, {"instances": list(instances)}, "")


def told(instance, *entrypoints, **more):
    return {"service": "hello", "instance": instance, "class": "shop:Hello", "entrypoints": list(entrypoints), **more}


def tick(method, after, **more):
    return {"kind": "timer", "method": method, "what": "every 60 s", "next": after, "doc": "Cleans.", **more}


def test_answers_of_nodes_are_added_and_the_newest_instance_counts():
    description = describe("hello", VIEW)
    add = {"kind": "rpc", "method": "add", "what": "", "annotations": {"a": "int"}, "doc": "Adds."}
    old = told("h1", tick("clean", 7.0), dependencies={"db": "Old"})

    new = told("h2", add, tick("clean", 9.0), doc="Says hello.", dependencies={"db": "Database"})
    complete_with(description, [answer(old), NodeAnswer("tcp://127.0.0.1:9", ["hello"], 3, None, "late"), answer(new)])

    assert description["methods"]["add"] == {
        "idempotent": False, "signature": "(a, b=1)", "annotations": {"a": "int"}, "doc": "Adds.",
    }  # fmt: skip
    assert description["dependencies"] == {"db": "Database"}
    lines = page(description).splitlines()
    assert lines[:2] == ["hello  (shop:Hello)", "  Says hello."]
    (at,) = [number for number, line in enumerate(lines) if line.startswith("  timer")]
    assert lines[at - 1 : at + 2] == [
        "  KIND   METHOD  RUNS FOR                   GROUP",
        "  timer  clean   every 60 s, next in 7.0 s  -",
        "      Cleans.",
    ]
    assert lines[at + 3 : at + 5] == ["  NEEDS  FROM", "  db     Database"]


def test_a_cluster_timer_is_listed_with_its_leader():
    description = describe("hello", VIEW)
    one, other = (tick("clean", after, cluster=True, is_leader=leads) for after, leads in ((1.0, False), (30.0, True)))

    complete_with(description, [answer(told("h1", one)), answer(told("h2", other))])

    assert description["entrypoints"][0]["next"] == 30.0


def test_without_answers_a_page_shows_the_records_of_the_directory():
    description = describe("hello", VIEW)
    before = page(description)

    complete_with(description, [NodeAnswer("tcp://127.0.0.1:2", ["hello"], 3.0, None, "too late")])

    assert page(description) == before
    assert "NEEDS" not in before


def test_texts_of_peers_move_no_cursor_and_begin_no_line():
    evil = "a\x1b[2J\nb\x9bc"
    record = Record(
        service=evil,
        instance=evil,
        endpoints={"rpc": evil},
        host=evil,
        methods={evil: {"signature": f"({evil})", "doc": evil}},
        tags={LISTED_ENTRYPOINTS_TAG: [{"kind": evil, "method": evil, "what": evil, "group": evil}]},
    )
    view = View(records={evil: Seen(record, age=0.0, suspect=False)})

    shown = [table(summaries(view)), page(describe(evil, view)), did_you_mean("x", {evil}), to_json(summaries(view))]

    for text in shown:
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
    assert len(shown[0].splitlines()) == 2
    assert r"a\x1b[2J\nb\x9bc" in shown[0] and r"a\x1b[2J\nb\x9bc" in shown[1]
    assert json.loads(shown[3])[0]["service"] == evil


@pytest.mark.parametrize("endpoint", ["tcp://[", "tcp://[x]:1", "tcp://10.0.0.5:99999"])
def test_an_announced_address_that_is_invalid_does_not_end_a_listing(endpoint):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()

    assert not is_dead(Record("maths", "one", host=platform.node(), pid=gone.pid, endpoints={"rpc": endpoint}))


def test_a_directory_that_does_not_answer_is_an_error_and_no_empty_list():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = {"DIRECTORY": f"local:{silent.getsockname()[1]}", "DIRECTORY_CACHE": "none"}

        with pytest.raises(RemoteUnavailable, match="directory local"), looked_up(settings, 0.2):
            pass
