"""The examples of the guide to calls run as they stand there."""

import re
import socket
import textwrap
from pathlib import Path

from zmqservices import config
from zmqservices.runners import run_services

GUIDE = (Path(__file__).parents[2] / "docs" / "rpc.rst").read_text(encoding="utf-8")


def test_the_examples_of_the_guide_hold(monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ZMQSERVICES_LOCAL_PORT", str(probe.getsockname()[1]))
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
