"""Completions for the shell, summaries of commands, and suggestions for mistyped names."""

import socket

import click
import pytest

from discovery.model import Record
from zmqservices.cli import alive, complete
from zmqservices.cli.dead_letters import dead_letters_command
from zmqservices.cli.events import events_command
from zmqservices.cli.listing import did_you_mean
from zmqservices.cli.log_setup import process_label
from zmqservices.cli.main import cli

LISTED = {"maths": {"add", "mul"}, "mails": set(), "events:orders": {"stats"}}


@pytest.fixture
def ctx(monkeypatch):
    monkeypatch.setattr(complete, "_listed", lambda ctx: LISTED)
    return None


def test_services_methods_and_sources_are_completed(ctx):
    assert complete.services(ctx, None, "m") == ["mails", "maths"]
    assert complete.methods(ctx, None, "maths.a") == ["maths.add"]
    assert complete.methods(ctx, None, "") == ["maths.add", "maths.mul"]
    assert complete.sources(ctx, None, "") == ["orders"]


def test_modules_are_completed_folder_by_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop").mkdir()
    for name in ("hello.py", "no-module.py", "shop/__init__.py", "shop/orders.py"):
        (tmp_path / name).touch()

    assert complete.modules(None, None, "") == ["hello", "shop"]
    assert complete.modules(None, None, "shop.o") == ["shop.orders"]
    assert complete.modules(None, None, "nowhere.") == []


def test_without_a_directory_nothing_is_completed_and_no_error_is_shown(capsys):
    ctx = click.Context(cli)
    ctx.params = {"directory": "nonsense://"}

    assert complete.services(ctx, None, "") == []
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("group", [cli, events_command, dead_letters_command], ids=lambda group: group.name)
def test_no_summary_is_cut(group):
    text = group.get_help(click.Context(group, info_name=group.name, terminal_width=80))

    assert "..." not in text.partition("Commands:")[2]


def test_a_mistyped_name_gets_a_suggestion():
    assert did_you_mean("mathss", ["maths", "mails"]) == "did you mean 'maths'? "
    assert did_you_mean("xyz", ["b", "a"]) == "there are a, b; "
    assert did_you_mean("xyz", []) == ""
    assert "and 90 more" in did_you_mean("xyz", [f"s{n}" for n in range(100)])


def record(**fields):
    return Record(service="maths", instance="i", **{"host": alive.platform.node(), "pid": 1, **fields})


def test_an_instance_is_dead_if_its_process_and_port_on_this_host_are_gone(monkeypatch):
    monkeypatch.setattr(alive, "_runs", lambda pid: pid == 1)
    with socket.socket() as listening, socket.socket() as shut:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        shut.bind(("127.0.0.1", 0))
        answers = {"rpc": f"tcp://127.0.0.1:{listening.getsockname()[1]}"}
        silent = {"rpc": f"tcp://127.0.0.1:{shut.getsockname()[1]}"}

        assert alive.is_dead(record(pid=2))
        assert alive.is_dead(record(pid=2, endpoints=silent))
        assert not alive.is_dead(record(pid=2, endpoints=answers))
        assert not alive.is_dead(record(pid=1, endpoints=silent))
        assert not alive.is_dead(record(pid=2, host="elsewhere", endpoints=silent))
        assert not alive.is_dead(record(pid=0))


def test_each_log_line_has_the_number_of_its_process(monkeypatch):
    monkeypatch.delenv("ZMQSERVICES_PROCESS", raising=False)
    assert process_label() == ""

    monkeypatch.setenv("ZMQSERVICES_PROCESS", "2")
    assert process_label() == "[2] "
