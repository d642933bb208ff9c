"""docs/observability.rst: what the commands print has the shape that the page shows."""

import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.documents.examples import DOCS, blocks
from tests.ports import free_port
from zmqservices.cli.main import main
from zmqservices.configuration import config

PAGE = (DOCS / "observability.rst").read_text("utf-8")
PATIENCE = 60.0


def sessions():
    """Each command of the page, with the output that is shown."""
    found = {}
    for block in re.findall(r"\.\. code-block:: console\n\n((?:    .*\n|\n)+)", PAGE):
        for part in re.split(r"^\$ ", textwrap.dedent(block), flags=re.MULTILINE)[1:]:
            line, _, output = part.partition("\n")
            found[line] = output
    return found


def shape(text):
    """Its lines without what is different each time: ids, addresses, hosts, numbers with their units, and columns' widths."""
    text = text.replace(platform.node(), "HOST").replace("blue", "HOST")
    text = re.sub(r"\b[0-9a-f]{12}\b", "ID", text)
    text = re.sub(r"\d+(\.\d+)*( (ms|s|m|h|d)\b)?", "N", text)
    # A number that is not known yet.
    text = re.sub(r"(?<=\s)-(?=\s|$)", "N", text)
    return [re.sub(r"\s+", " ", line).strip() for line in text.splitlines() if line.strip()]


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """The page's services in a process of their own."""
    (source,) = re.findall(r"in ``shop.py``:\n\n\.\. code-block:: python\n\n((?:    .*\n|\n)+)", PAGE)
    (tmp_path / "shop.py").write_text(textwrap.dedent(source), "utf-8")
    monkeypatch.setenv("ZMQSERVICES_LOCAL_PORT", str(free_port()))
    command = [*shlex.split("-m zmqservices run shop -d STATISTICS=true -d"), f"JOURNAL_FOLDER={tmp_path / 'journals'}"]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with open(tmp_path / "log", "w+") as log:
        process = subprocess.Popen([sys.executable, *command], cwd=tmp_path, env=environ, stderr=subprocess.PIPE, text=True)
        for line in process.stderr:
            log.write(line)
            if line.startswith("Services started: "):
                break
        else:
            pytest.fail(f"the services did not start: {(tmp_path / 'log').read_text()}")
        yield
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)


@pytest.mark.system
@pytest.mark.timeout(240)
def test_the_commands_print_what_the_page_shows(shop, capsys, tmp_path):
    shown = sessions()

    def run(line):
        with config.patch({}):
            assert main(shlex.split(line)[1:]) == 0
        return capsys.readouterr().out

    assert run("zmqservices call orders.place '\"tea\"'") == shown["zmqservices call orders.place '\"tea\"'"].strip() + "\n"
    # The handler of the event runs for itself.
    while "send orders:placed" not in run("zmqservices stats"):
        pass
    for line in ("ping", "inspect orders", "info orders", "stats", "top --once"):
        printed, documented = (shape(text) for text in (run(f"zmqservices {line}"), shown[f"zmqservices {line}"]))
        assert printed == documented, line
    found = run(f"zmqservices check -d JOURNAL_FOLDER={tmp_path}")
    assert [line for line in found.splitlines() if line.startswith("error")] == []


def test_the_page_names_every_field_of_an_answer():
    from zmqservices.observability.snapshot import snapshot
    from zmqservices.observability.statistics import Statistics

    fields = [*snapshot(Statistics(), []), "callees", "node", "version", "host", "pid", "at", "uptime"]

    assert [field for field in fields if f"``{field}``" not in PAGE] == []


def test_the_example_of_traces_holds(monkeypatch):
    (source,) = (block for block in blocks(PAGE) if "opentelemetry" in block)
    monkeypatch.setenv("ZMQSERVICES_LOCAL_PORT", str(free_port()))

    exec(compile(source, "observability.rst", "exec"), {"__name__": "observability_rst"})
