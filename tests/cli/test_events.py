"""`zmqservices events` against a running cluster of this process's own."""

import json
import re

import pytest

from tests.events.conftest import *  # noqa: F403 (fixtures)
from tests.events.stage import Notes, Orders, until
from tests.stage import aside
from zmqservices.cli.events import moment, rewound
from zmqservices.cli.groups import span
from zmqservices.cli.main import main
from zmqservices.cli.tail import missing
from zmqservices.events import event_handler
from zmqservices.exceptions import CommandError

GROUP = "mails.send:order.paid"


@pytest.fixture
def command(cluster_config, capsys):
    """Run `zmqservices events ...` in a thread, and return its exit code, output and complaints."""

    def run(*arguments):
        options = ["--directory", cluster_config["DIRECTORY"], "--namespace", cluster_config["NAMESPACE"]]
        code = aside(main, ["events", *arguments, *options])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def failing(serve, cluster):
    """A handler that fails until `mended` is not empty. It has one dead letter already."""
    mended, notes = [], Notes()

    class Mails:
        name = "mails"
        notes_ = notes

        @event_handler("orders", "order.paid", max_deliveries=1)
        def send(self, payload):
            if not mended:
                raise ValueError("not yet")
            self.notes_.append(payload)

    serve(Orders)
    serve(Mails)
    cluster.orders.tell("order.paid", {"number": 17})
    until(lambda: cluster["events:orders"].dead_letters())
    return mended, notes


def test_ls_shows_groups_and_their_waiting_events(failing, command):
    code, out, _ = command("ls")
    assert code == 0
    assert re.search(rf"orders +\S+:\d+ +{re.escape(GROUP)} +1 +0 +- +0 +1 +0", out), out

    code, out, _ = command("ls", "orders", "--json")
    assert code == 0
    [stats] = json.loads(out)
    assert stats["journals"][0]["groups"][0]["dead_letters"] == 1


def test_groups_without_members_and_publishers_are_shown(serve, command):
    class Mails:
        name = "mails"

        @event_handler("orders", "order.paid")
        def send(self, payload):
            """Nobody publishes."""

        @event_handler("orders", "order.lost", reliable_delivery=False)
        def listen(self, payload):
            """Nothing is kept for this one."""

    code, out, err = command("groups")
    assert (code, out) == (0, "") and "no group is known; " in err

    mails = serve(Mails)
    code, out, _ = command("groups", "--json")
    [group] = json.loads(out)
    there = {"source": "orders", "group": GROUP, "kind": "service_pool", "members": 1, "publishers": 0}
    assert (code, group) == (0, {**there, "gone": None, "forgotten_in": None})

    mails.stop()
    publisher = serve(Orders)
    code, out, _ = command("groups", "orders")
    assert re.search(rf"orders +{re.escape(GROUP)} +service_pool +0 +1 +\d+ s ago +7 d", out), out
    assert "no group is known of 'stock'; " in command("groups", "stock")[2]

    publisher.stop()
    assert command("forget", "orders", GROUP)[0] == 0
    assert "no group is known; " in command("groups")[2]


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (119, "119 s"), (120, "2 min"), (7_200, "2 h"), (30 * 86_400, "30 d")]
)
def test_durations_are_printed_in_suitable_units(seconds, text):
    assert span(seconds) == text


def test_dead_letters_are_listed_shown_and_requeued(failing, command):
    mended, notes = failing

    code, out, _ = command("dead-letters", "ls", "orders", "--json")
    [letter] = json.loads(out)
    assert (code, letter["data"], letter["group"]) == (0, {"number": 17}, GROUP)
    code, out, _ = command("dead-letters", "ls", "orders")
    assert "ValueError: not yet" in out
    code, out, _ = command("dead-letters", "show", "orders", GROUP, str(letter["seq"]))
    assert code == 0 and "Traceback" in out

    mended.append(True)
    assert command("dead-letters", "requeue", "orders", GROUP, str(letter["seq"]))[0] == 0
    assert notes.wait_for(1) == [{"number": 17}]
    assert "no dead letters" in command("dead-letters", "ls", "orders")[1]


def test_dead_letters_are_dropped(failing, command):
    assert command("dead-letters", "drop", "orders", GROUP, "--all")[:2] == (0, "dropped 1 dead letters\n")
    assert "no dead letters" in command("dead-letters", "ls", "orders")[1]


def test_a_replay_delivers_events_again(serve, cluster, command):
    notes = Notes()

    class Mails:
        name = "mails"
        notes_ = notes

        @event_handler("orders", "order.paid")
        def send(self, payload):
            self.notes_.append(payload)

    serve(Orders)
    serve(Mails)
    cluster.orders.tell_all("order.paid", 3)
    notes.wait_for(3)
    until(lambda: cluster["events:orders"].stats()["journals"][0]["groups"][0]["waiting"] == 0)

    code, out, _ = command("replay", "orders", GROUP, "--since", "1h")
    assert code == 0 and re.fullmatch(rf"{re.escape(GROUP)} receives again all kept events of the journal \S+\n", out), out

    assert notes.wait_for(6) == [0, 1, 2, 0, 1, 2]


def test_tail_shows_events_as_they_happen(serve, cluster, cluster_config, start):
    serve(Orders)
    options = ["--directory", cluster_config["DIRECTORY"], "--namespace", cluster_config["NAMESPACE"]]
    tail = start("events", "tail", "orders", "order.*", "--count", "2", "--json", *options)
    reading = aside(tail.until, "listening for")
    assert reading

    cluster.orders.tell("order.paid", {"number": 1})
    cluster.orders.tell("other", {})
    cluster.orders.tell("order.sent", {"number": 2})

    assert aside(tail.end) == 0
    shown = [json.loads(line) for line in tail.lines if line.startswith("{")]
    assert [(one["type"], one["data"]["number"]) for one in shown] == [("order.paid", 1), ("order.sent", 2)]


def test_a_replay_says_where_it_begins():
    assert rewound(GROUP, "a1", 0) == f"{GROUP} receives again all kept events of the journal a1"
    assert rewound(GROUP, "a1", 7) == f"{GROUP} receives again the events after 7 of the journal a1"


def test_a_tail_of_a_source_that_nobody_publishes_says_so():
    assert missing("orders", {"orders", "stock"}) == missing("orders", None) == ""
    assert missing("ordesr", {"orders"}) == (
        "no publisher of 'ordesr' is listed; did you mean 'orders'? waiting for one"
    )
    assert missing("bills", {"orders\x1b[2J"}) == (
        "no publisher of 'bills' is listed; there are orders\\x1b[2J; waiting for one"
    )
    assert missing("bills", set()) == "no publisher of 'bills' is listed; waiting for one"


def test_a_tail_gives_a_hint_and_waits(serve, cluster, cluster_config, start):
    serve(Orders)
    options = ["--directory", cluster_config["DIRECTORY"], "--namespace", cluster_config["NAMESPACE"]]
    tail = start("events", "tail", "ordesr", *options)

    assert "did you mean 'orders'? waiting for one" in aside(tail.until, "no publisher of")
    assert tail.popen.poll() is None


def test_mistakes_are_reported_in_one_sentence(failing, command):
    code, _, err = command("ls", "bills")
    assert code == 3 and "no publisher of its events is listed" in err
    code, _, err = command("ls", "order")
    assert code == 3 and "did you mean 'orders'?" in err
    for arguments in (("ls", "orders", "mails.sent:order.paid"), ("show", "orders", "mails.sent:order.paid", "1")):
        code, out, err = command("dead-letters", *arguments)
        assert (code, out) == (2, "") and f"there is no group 'mails.sent:order.paid'; did you mean {GROUP!r}?" in err
    code, _, err = command("replay", "orders", "nobody")
    assert code == 2 and f"no group 'nobody' here; there are: {GROUP}" in err
    code, _, err = command("dead-letters", "drop", "orders", GROUP)
    assert code == 2 and "or --all" in err
    code, _, err = command("dead-letters", "show", "orders", GROUP, "999")
    assert code == 2 and "no dead letter 999" in err
    code, _, err = command("forget", "orders", GROUP)
    assert code == 2 and "stop them first" in err


def test_a_group_is_removed_from_the_directory_even_without_a_publisher(serve, command):
    class Mails:
        name = "mails"

        @event_handler("orders", "order.paid")
        def send(self, payload):
            pass

    serve(Mails).stop()

    code, out, _ = command("forget", "orders", GROUP)
    assert code == 0 and "the directory and 0 publishers have forgotten" in out
    code, _, err = command("forget", "orders", GROUP)
    assert code == 3 and "no publisher of its events is listed" in err
    serve(Orders)
    code, _, err = command("forget", "orders", GROUP)
    assert code == 2 and f"neither a publisher of 'orders' nor the directory knows the group {GROUP!r}" in err


def test_a_time_is_iso_or_a_duration_before_now():
    assert moment("1970-01-02T00:00+00:00") == 86_400
    assert moment("2h") < moment("1.5h") < moment("10m") < moment("5s")
    with pytest.raises(CommandError, match="is no time"):
        moment("yesterday")


def test_the_shell_dispatches_events(serve, cluster_config, zmqservices):
    notes = Notes()

    class Mails:
        name = "mails"
        notes_ = notes

        @event_handler("orders", "order.paid")
        def send(self, payload):
            self.notes_.append(payload)

    serve(Mails)
    keys = ("DIRECTORY", "NAMESPACE", "JOURNAL_FOLDER")
    definitions = [part for key in keys for part in ("-d", f"{key}={cluster_config[key]}")]

    def shell():
        return zmqservices("shell", *definitions, input="n.dispatch_event('orders', 'order.paid', {'number': 5})")

    done = aside(shell)

    assert done.returncode == 0, done.stderr
    assert notes.wait_for(1) == [{"number": 5}]
