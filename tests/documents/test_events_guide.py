"""The examples of the guide to events run as they stand there."""

import re
import textwrap
from pathlib import Path

import gevent

from tests.ports import free_port
from zmqservices import config
from zmqservices.containers import ServiceContainer
from zmqservices.runners import run_services
from zmqservices.standalone.rpc import ClusterRpcProxy

GUIDE = (Path(__file__).parents[2] / "docs" / "events.rst").read_text(encoding="utf-8")


def test_the_examples_of_the_guide_hold(monkeypatch, tmp_path):
    monkeypatch.setenv("ZMQSERVICES_LOCAL_PORT", str(free_port()))
    found = re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", GUIDE)
    services, program, named = [compile(textwrap.dedent(block), f"<block {i}>", "exec") for i, block in enumerate(found)]
    names, others = {}, {}
    exec(services, names)
    exec(named, others)
    config.setup({"NAMESPACE": "events-guide", "JOURNAL_FOLDER": str(tmp_path)})

    with run_services(config, names["Orders"], names["Mails"], names["Caches"]):
        exec(program, {})
        with ClusterRpcProxy() as cluster:
            cluster.orders.pay(18)
        with gevent.Timeout(10):
            while len(names["Mails"].sent) < 2 or len(names["Caches"].dropped) < 2:
                gevent.sleep(0.001)

    assert sorted(names["Mails"].sent) == sorted(names["Caches"].dropped) == [17, 18]
    assert ServiceContainer(others["Caches"], config).service_name == "caches"
