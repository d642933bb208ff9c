"""The examples of the guide to calls run as they stand there."""

import re
import textwrap
from pathlib import Path

from tests.ports import free_port
from zmqservices import config
from zmqservices.runners import run_services

GUIDE = (Path(__file__).parents[2] / "docs" / "rpc.rst").read_text(encoding="utf-8")


def test_the_examples_of_the_guide_hold(monkeypatch):
    monkeypatch.setenv("ZMQSERVICES_LOCAL_PORT", str(free_port()))
    found = re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", GUIDE)
    services, *programs = [compile(textwrap.dedent(block), f"<block {i}>", "exec") for i, block in enumerate(found)]
    names = {}
    exec(services, names)
    # The traceback that travels shows source lines, so the service needs some.
    import linecache

    source = textwrap.dedent(found[0])
    linecache.cache["<block 0>"] = (len(source), None, source.splitlines(True), "<block 0>")
    config.setup({"NAMESPACE": "guide"})

    assert len(programs) == 2
    with run_services(config, names["Maths"], names["Report"]):
        for program in programs:
            exec(program, {})
