"""`zmqservices top`: rows from the answers of nodes, columns that fit the terminal, keys, and the output on a real terminal."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import termios
from contextlib import closing

import pytest
from rich.cells import cell_len

from discovery import open_directory
from tests.discovery.stage import House, record, registries
from tests.documents.examples import DOCS
from tests.ports import free_port
from tests.terminal import Terminal
from zmqservices.cli.cluster_rows import GONE, KEPT, SILENT, WINDOW, ClusterRows, Listed, arranged
from zmqservices.cli.cluster_table import duration, fitting, plain, rate
from zmqservices.cli.keyboard import Keyboard, keys_in
from zmqservices.cli.main import main
from zmqservices.cli.node_watch import NodeWatch
from zmqservices.cli.top_screen import lines_of
from zmqservices.cli.top_view import TopView
from zmqservices.configuration import config
from zmqservices.observability.histogram import Histogram

PAGE = (DOCS / "cli.rst").read_text("utf-8")

# --- rows ---------------------------------------------------------------------------------------------------------------


def listed(instance, service="orders", state="UP"):
    return Listed(service, instance, state, f"tcp://{instance}", "blue")


def answer(instance, at, durations, errors=0, service="orders", since=1.0, groups=(), **more):
    """The answer of the node of `instance` at the time `at`, after calls of these durations."""
    histogram = Histogram()
    for one in durations:
        histogram.observe(one)
    method = {"count": len(durations), "errors": {"ValueError": errors} if errors else {}, "durations": histogram.to_dict()}
    told = {"service": service, "instance": instance, "running": 1, "queued": 2, "max_workers": 10, "methods": [method], **more}
    return {"at": at, "pid": 7, "since": since, "uptime": 60.0, "version": "1.0", "instances": [told], "groups": list(groups)}


@pytest.fixture
def rows():
    rows = ClusterRows()
    rows.update([listed("one"), listed("two")], now=0.0)
    return rows


def row(rows, instance):
    (found,) = [one for _, instances in rows.rows() for one in instances if one.instance == instance]
    return found


def total(rows, service="orders"):
    (found,) = [one for one, _ in rows.rows() if one.service == service]
    return found


def test_rates_and_quantiles_are_those_between_two_answers(rows):
    rows.answered("tcp://one", answer("one", 100.0, [1.0] * 10))
    assert (row(rows, "one").rate, row(rows, "one").calls) == (None, 10)

    rows.answered("tcp://one", answer("one", 102.0, [1.0] * 10 + [0.01] * 30, errors=4))

    found = row(rows, "one")
    assert (found.rate, found.error_rate, found.errors) == (15.0, 2.0, 4)
    assert found.p99 == pytest.approx(0.01, rel=0.07)
    assert (found.in_flight, found.queue, found.workers, found.version) == (1, 2, 10, "1.0")


def test_rates_cover_the_last_seconds(rows):
    for second in range(60):
        rows.answered("tcp://one", answer("one", float(second), [0.1] * min(second, 30) * 10))

    assert row(rows, "one").rate == 0.0
    assert len(rows._known["one"].counts) <= WINDOW + 1


@pytest.mark.parametrize("later", [answer("one", 102.0, [0.1], since=2.0), answer("one", 99.0, [0.1] * 30)])
def test_restarted_counts_and_a_clock_that_was_set_back_give_no_rate(rows, later):
    rows.answered("tcp://one", answer("one", 100.0, [0.1] * 20))
    rows.answered("tcp://one", later)

    assert row(rows, "one").rate is None


def test_the_row_of_a_service_adds_up_its_instances(rows):
    for at, count in ((0.0, 0), (1.0, 10)):
        rows.answered("tcp://one", answer("one", at, [0.01] * count))
        rows.answered("tcp://two", answer("two", at, [1.0] * count * 3, errors=count))

    found = total(rows)
    assert (found.state, found.instances, found.rate, found.error_rate) == ("2/2 up", 2, 40.0, 10.0)
    assert found.p50 == pytest.approx(1.0, rel=0.07)
    assert (found.in_flight, found.queue) == (2, 4)


def test_an_unreachable_node_is_gone_and_a_node_that_does_not_answer_is_silent(rows):
    for instance in ("one", "two"):
        rows.answered(f"tcp://{instance}", answer(instance, 1.0, [0.1]))
    rows.failed("tcp://one", "MaybeExecuted: lost", GONE)
    rows.failed("tcp://two", "RpcTimeout: late", SILENT)

    assert (row(rows, "one").state, row(rows, "two").state) == (GONE, SILENT)
    assert row(rows, "one").in_flight is row(rows, "two").in_flight is None
    assert total(rows).state == "0/2 up"

    rows.answered("tcp://two", answer("two", 2.0, [0.1]))
    assert row(rows, "two").state == "UP"


@pytest.mark.parametrize("wrong", [
    {"groups": [{"source": "orders", "group": "mails"}]},
    {"groups": [{"source": "a", "group": "b", "journal": "c", "waiting": None}]},
    {"callees": [{"held": 1}]}, {"callees": [{"held": "some", "instances": [], "service": "mails"}]}, {"uptime": "long"},
    {"instances": [{"instance": "one", "running": "many"}]}, {"instances": [{"instance": "one", "longest": [{}]}]}, {"at": None},
    {"instances": [7]},
])  # fmt: skip
def test_an_answer_of_another_form_is_refused_and_leaves_the_rows_as_they_are(rows, wrong):
    rows.answered("tcp://two", answer("two", 1.0, [0.1]))

    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        rows.answered("tcp://one", {**answer("one", 1.0, [0.1]), **wrong})

    assert (row(rows, "one").problem, row(rows, "two").calls, total(rows).calls) == ("", 1, 1)


def test_names_that_are_numbers_are_sorted_among_the_others(rows):
    callees = [{"service": name, "held": 2, "instances": []} for name in (7, "mails")]
    group = {"source": 8, "group": 8, "journal": 8, "waiting": 3}

    rows.answered("tcp://one", {**answer("one", 1.0, [0.1], groups=[group]), "callees": callees})

    assert [(service.service, service.backlog) for service, _ in rows.rows()] == [
        ("7", None), ("8", 3), ("mails", None), ("orders", None),
    ]  # fmt: skip


def test_a_node_that_refuses_to_answer_is_up(rows):
    rows.failed("tcp://one", "Forbidden: no", "")

    assert (row(rows, "one").state, row(rows, "one").problem) == ("UP", "Forbidden: no")


def test_a_draining_instance_is_draining_even_if_its_node_is_silent(rows):
    rows.update([listed("one", state="DRAINING")], now=0.0)
    rows.failed("tcp://one", "late", SILENT)

    assert row(rows, "one").state == "DRAINING"


def test_an_instance_that_left_the_directory_is_shown_as_gone_for_a_while(rows):
    rows.update([listed("two")], now=1.0)
    assert row(rows, "one").state == GONE
    rows.update([listed("two")], now=1.0 + KEPT + 0.1)

    assert [one.instance for one in rows.rows()[0][1]] == ["two"]


def test_the_backlog_is_that_of_the_services_that_handle_events(rows):
    def group(name, waiting, dead=0, journal="j1"):
        return {"source": "shop.orders", "group": name, "journal": journal, "waiting": waiting, "dead_letters": dead}

    groups = [
        group("orders.again:paid", 3, 1), group("orders.again:paid", 4, journal="j2"), group("shop.mails.send:paid", 5),
        group("shop.orders:paid", 2), group("idle.send:paid", 0),
    ]  # fmt: skip
    rows.answered("tcp://one", answer("one", 1.0, [], groups=groups))
    # The same journal, as another node tells of it.
    rows.answered("tcp://two", answer("two", 1.0, [], groups=groups[:1]))

    assert (total(rows).backlog, total(rows).dead_letters) == (7, 1)
    # Its handlers are all away, and events wait for them.
    assert (total(rows, "shop.mails").backlog, total(rows, "shop.mails").state) == (5, "0/0 up")
    assert total(rows, "shop.orders").backlog == 2
    assert "idle" not in [one.service for one, _ in rows.rows()]


@pytest.fixture
def shop():
    rows = ClusterRows()
    rows.update([listed("o1"), listed("o2"), listed("m1", "mails"), listed("w1", "web", "DRAINING")], now=0.0)
    for instance, service, seconds in (("o1", "orders", 0.5), ("o2", "orders", 0.1), ("m1", "mails", 0.2)):
        rows.answered(f"tcp://{instance}", answer(instance, 0.0, [], service=service))
        rows.answered(f"tcp://{instance}", answer(instance, 1.0, [seconds] * 10, service=service))
    return rows.rows()


def named(rows):
    return [one.instance or one.service for one in rows]


def test_rows_are_sorted_by_name_or_the_largest_first(shop):
    assert named(arranged(shop)) == ["mails", "m1", "orders", "o1", "o2", "web", "w1"]
    assert named(arranged(shop, "p99")) == ["orders", "o1", "o2", "mails", "m1", "web", "w1"]
    assert named(arranged(shop, "p99", is_reversed=True)) == ["web", "w1", "mails", "m1", "orders", "o2", "o1"]
    assert named(arranged(shop, "rate", with_instances=False)) == ["orders", "mails", "web"]


def test_a_filter_fits_services_instances_hosts_and_states(shop):
    assert named(arranged(shop, wanted="MAIL")) == ["mails", "m1"]
    assert named(arranged(shop, wanted="o2")) == ["orders", "o2"]
    assert named(arranged(shop, wanted="draining")) == ["web", "w1"]
    assert len(arranged(shop, wanted="blue")) == 7
    assert arranged(shop, wanted="nobody") == []


# --- columns ------------------------------------------------------------------------------------------------------------


def test_numbers_are_short():
    assert [rate(one) for one in (None, 0, 0.25, 12.34, 1234.5)] == ["-", "0", "0.2", "12.3", "1234"]
    shown = [duration(one) for one in (None, 0.000002, 0.00004, 0.00012, 0.25, 2.5, 150, 10_000, 300_000)]
    assert shown == ["-", "0.01 ms", "0.04 ms", "0.1 ms", "250 ms", "2.5 s", "2 min", "3 h", "3 d"]


def test_a_wide_terminal_shows_all_columns_and_a_narrow_one_the_needed_ones(shop):
    rows = arranged(shop)
    wide, narrow = ([column.title for column, _ in fitting(rows, width)] for width in (200, 40))

    assert wide[0] == "SERVICE" and wide[-1] == "VERSION" and "BACKLOG" in wide
    assert narrow == ["SERVICE", "STATE", "CALLS/S", "P99"]


@pytest.mark.parametrize("width", [200, 100, 80, 60, 40, 25, 10])
@pytest.mark.parametrize("height", [50, 8, 3, 1])
def test_a_picture_is_never_larger_than_its_terminal(shop, width, height):
    rows = arranged(shop)
    rows[2].service = "a-service-with-a-very-long-name-\x1b[2J-indeed"
    rows[3].problem = "RpcTimeout: \x1b[2J no answer in time"

    for view in (TopView(), TopView(offset=5), TopView(is_typing=True, wanted="x" * 300)):
        lines = lines_of(rows, view, "namespace default", width, height, "12:00:00")

        assert len(lines) == height
        assert all(cell_len(line.plain) <= width and "\x1b" not in line.plain for line in lines)


def test_the_reason_why_a_node_does_not_answer_is_shown_below_the_rows(shop):
    rows = arranged(shop)
    rows[1].problem, rows[3].problem = "RpcTimeout: late", "Forbidden: no"

    *_, problem, last = lines_of(rows, TopView(), "namespace default", 100, 20, "12:00:00")

    assert problem.plain.strip() == "m1: RpcTimeout: late (and 1 more)"
    assert last.plain.startswith("q quit")


def test_a_filter_that_fits_nothing_says_how_to_end_it():
    lines = lines_of([], TopView(wanted="ordz"), "namespace default", 100, 20, "12:00:00")

    assert "nothing has 'ordz' in its name; Esc ends the filter" in [line.plain for line in lines]


# --- nodes that do not answer -------------------------------------------------------------------------------------------


def test_a_node_without_a_listener_is_gone_and_one_without_an_answer_is_silent():
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(8)
        services = {"gone": f"tcp://127.0.0.1:{free_port()}", "silent": f"tcp://127.0.0.1:{mute.getsockname()[1]}"}
        settings = {"DIRECTORY": "static:" + ";".join(f"{name}={address}" for name, address in services.items())}
        with open_directory(settings["DIRECTORY"]) as directory:
            watch = NodeWatch(directory, settings, timeout=0.4, connect_timeout=0.1)
            try:
                states = {}
                while states != {"gone": GONE, "silent": SILENT}:
                    watch.ask(wait=True)
                    states = {service.service: one.state for service, (one,) in watch.rows()}
                    assert states["gone"] == GONE
                    assert states["silent"] in ("UP", SILENT)
            finally:
                watch.close()


@pytest.mark.parametrize("address", ["nonsense", "quic://1.2.3.4:5", "tcp://1.2.3.4:5#zz"])
def test_a_record_without_a_usable_address_is_a_problem_of_its_own(address):
    with registries() as (server,), closing(House(server.url)) as house:
        announcing = house.open()
        announcing.announce(record("one", endpoints={"rpc": address}))
        assert announcing.flush(30)
        watch = NodeWatch(announcing, {"DIRECTORY": server.url}, timeout=0.4)
        try:
            for _ in range(2):
                watch.ask(wait=True)
                ((_, (one,)),) = watch.rows()
                assert (one.state, one.problem.split(":")[0]) == ("UP", "ConfigurationError")
                assert address.partition("#")[2] in one.problem
        finally:
            watch.close()


def test_the_page_of_the_command_line_shows_the_columns_of_a_usual_terminal(shop):
    (header, *rest) = re.findall(r"asks their nodes each second.*::\n\n((?:    .*\n)+)", PAGE)[0].splitlines()

    found = [column.title for column, _ in fitting(arranged(shop), 103) if column.title != "HOST"]

    assert re.split(r" {2,}", header.strip()) == found
    assert [re.split(r" {2,}", line.strip())[1] for line in rest] == ["1/1 up", "UP", "1/2 up", "GONE", "UP"]


def test_text_for_scripts_has_all_columns(shop):
    first, *rest = plain(arranged(shop)).splitlines()

    assert first.split()[:3] == ["SERVICE", "STATE", "HOST"]
    assert rest[0].split()[:3] == ["mails", "1/1", "up"]
    assert len(rest) == 7


def test_a_called_service_without_instances_is_shown_with_its_waiting_calls(rows):
    missing = {"service": "stock", "held": 2, "instances": []}
    idle = {"service": "mails", "held": 0, "instances": []}
    rows.answered("tcp://one", {**answer("one", 1.0, [0.1]), "callees": [missing, idle]})

    assert [one.service for one, _ in rows.rows()] == ["orders", "stock"]
    assert total(rows, "stock").state == "0/0 up"
    assert total(rows, "stock").problem == "calls that wait for an instance: 2"


def test_the_longest_running_call_is_shown_at_its_instance_and_its_service(rows):
    longest = [{"method": "place", "call_id": "c", "caller": "", "seconds": 4.5}]
    rows.answered("tcp://one", answer("one", 1.0, [0.1], longest=longest))

    assert (row(rows, "one").oldest, row(rows, "two").oldest, total(rows).oldest) == (4.5, None, 4.5)


# --- keys ---------------------------------------------------------------------------------------------------------------


def after(keys, view=None):
    view = view or TopView()
    for key in keys:
        view = view.pressed(key)
    return view


def test_keys_sort_filter_move_and_quit():
    assert after("p") == TopView(sort="p99")
    assert after("pR").is_reversed and not after("pRn").is_reversed
    assert not after("i").with_instances
    assert after("q").is_over
    assert after(["down", "down", "up"]).offset == 1
    assert after(["up", "page up"]).offset == 0
    assert after(["page down"]).offset == 10
    assert after("xyz") == TopView()


def test_a_filter_is_typed_until_enter_and_escape_clears_it():
    typed = after("/quip")
    assert (typed.wanted, typed.is_typing, typed.is_over, typed.sort) == ("quip", True, False, "name")
    assert after([*"/ab", "backspace", "enter"]) == TopView(wanted="a")
    assert after([*"/ab", "escape"]) == TopView()
    assert after([*"/ab", "enter", "escape"]) == TopView()
    assert after([*"/a", "up"]).wanted == "a"


def test_bytes_of_a_terminal_are_read_as_keys():
    assert keys_in("pq") == ["p", "q"]
    assert keys_in("\x1b[A\x1bOB\x1b[6~/\x7f\r") == ["up", "down", "page down", "/", "backspace", "enter"]
    assert keys_in("\x1b[1;5C\x1b[15~\x00ü") == ["ü"]
    assert keys_in("\x1b") == ["escape"]


def test_leaving_the_keyboard_restores_the_terminal():
    master, slave = pty.openpty()
    try:
        before = termios.tcgetattr(slave)
        with pytest.raises(KeyboardInterrupt), Keyboard(slave) as keyboard:
            assert not termios.tcgetattr(slave)[3] & termios.ICANON
            os.write(master, b"q")
            assert keyboard.read(10.0) == ["q"]
            assert keyboard.read(0.0) == []
            raise KeyboardInterrupt
        assert termios.tcgetattr(slave) == before
    finally:
        os.close(master)
        os.close(slave)


# --- the command --------------------------------------------------------------------------------------------------------

SHOP = """
    from zmqservices.rpc import rpc, RpcProxy
    from zmqservices.timer import timer


    class Stock:
        name = "stock"

        @rpc
        def take(self):
            pass


    class Orders:
        name = "orders"
        stock = RpcProxy("stock")

        @timer(0.05)
        def tick(self):
            self.stock.take()
"""


@pytest.fixture
def terminal():
    terminal = Terminal()
    yield terminal
    terminal.close()


@pytest.mark.system
@pytest.mark.timeout(240)
def test_a_killed_instance_is_shown_as_gone_and_the_terminal_is_restored(
    start, write, terminal, capsys, monkeypatch, tmp_path
):
    write("shop.py", SHOP)
    monkeypatch.chdir(tmp_path)
    cluster = ("--directory", f"local:{free_port()}")
    orders = start("run", "shop:Orders", *cluster)
    orders.until("Services started")
    first, second = (start("run", "shop:Stock", *cluster) for _ in range(2))
    for stock in (first, second):
        stock.until("Services started")

    told = []
    # An instance that has just started may not be listed at the first question.
    while not (len(told) == 5 and all(one["rate"] is not None and one["in_flight"] is not None for one in told)):
        with config.patch({}):
            assert main(["top", *cluster, "--json", "--interval", "0.5", "--timeout", "20"]) == 0
        told = json.loads(capsys.readouterr().out)
    assert [(one["service"], one["state"]) for one in told if not one["instance"]] == [("orders", "1/1 up"), ("stock", "2/2 up")]

    before = termios.tcgetattr(terminal.slave)
    command = [sys.executable, "-W", "error", "-m", "zmqservices", "top", *cluster, "--timeout", "20"]
    top = subprocess.Popen(
        command, stdin=terminal.slave, stdout=terminal.slave, stderr=terminal.slave, cwd=tmp_path, start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm"},
    )  # fmt: skip
    try:
        # Calls are counted, and both instances answer.
        terminal.until(r"orders +1/1 up +[1-9][\d.]* [^\0]*stock +2/2 up +[1-9]")
        assert not termios.tcgetattr(terminal.slave)[3] & termios.ICANON
        first.signal(signal.SIGKILL)
        terminal.until(r"stock +1/2 up[^\0]*GONE")
        os.write(terminal.master, b"/orders\r")
        picture = terminal.until(r"filter: orders\s+SERVICE[^\0]*q quit")
        assert "stock" not in picture
        top.send_signal(signal.SIGINT)
        code = terminal.read_to_end(top)
    finally:
        if top.poll() is None:
            top.kill()
            top.wait()

    assert code == 130
    assert termios.tcgetattr(terminal.slave) == before
    left = terminal.raw.rpartition(b"\x1b[?1049l")
    assert left[1] and b"\x1b[?25h" in terminal.raw[-50:], terminal.raw[-200:]
    assert b"Traceback" not in terminal.raw
    for process in (orders, second):
        process.signal(signal.SIGTERM)
        assert process.end() == 0


def test_without_a_terminal_or_rich_the_command_says_what_to_do(capsys, monkeypatch):
    assert main(["top"]) == 2
    assert "top needs a terminal; use --once to print the rows as text, or --json" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.delitem(sys.modules, "zmqservices.cli.top_screen")

    assert main(["top"]) == 2

    assert "pip install zmqservices[top]` brings it; --once and --json do without" in capsys.readouterr().err


def test_a_filter_that_fits_nothing_is_told_with_the_name_that_was_probably_meant(capsys):
    with registries() as (server,), closing(House(server.url)) as house:
        announcing = house.open()
        announcing.announce(record("one", service="orders", endpoints={"rpc": "tcp://127.0.0.1:1"}))
        assert announcing.flush(30)

        assert main(["top", "orderz", "--once", "--directory", server.url, "--interval", "0.1", "--timeout", "5"]) == 0

    said = capsys.readouterr()
    assert said.out == "" and "nothing has 'orderz' in its name; did you mean 'orders'? directory" in said.err


def test_an_empty_cluster_shows_no_rows(capsys):
    with config.patch({}):
        assert main(["top", "--once", "--directory", f"local:{free_port()}", "--interval", "0.1"]) == 0

    said = capsys.readouterr()
    assert said.out == "" and "nothing to show; directory local" in said.err
