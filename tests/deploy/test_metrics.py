"""Alert rules and dashboard name what the code exports, and a real Prometheus takes all of it."""

import json
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import pytest
import yaml

from tests.deploy.manifests import DEPLOY
from tests.discovery.engine_servers import needed
from tests.ports import free_port
from tests.system.processes import eventually
from zmqservices.observability.prometheus import LABELS, MetricsServer

RULES = DEPLOY / "prometheus" / "zmqservices.rules.yml"
DASHBOARD = DEPLOY / "grafana" / "zmqservices.json"

#: Metrics that Prometheus makes itself, and words of PromQL.
OF_PROMETHEUS = {"up"}
_NAME = re.compile(r"\b((?:zmqservices|rpc|messaging|http|process)_[a-z_]+|up)(?=[\s{\[)>]|$)")
_SELECTOR = re.compile(r"\{([^}]*)\}")


def expressions():
    """All PromQL of rules and dashboard."""
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


@pytest.fixture
def exported():
    """Names of the samples that the code exports, whether or not anything was counted yet, and all labels."""
    server = MetricsServer("127.0.0.1:0")
    names, labels = set(), {"instance", "job", "process", "le"}
    try:
        for family in server.registry.collect():
            suffixes = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("_total",)}.get(family.type, ("",))
            names |= {family.name + suffix for suffix in suffixes}
            labels |= set(getattr(family, "_labelnames", ()))
    finally:
        server._server.stop()
    for of_kind in LABELS.values():
        labels |= set(of_kind.values())
    return names, labels


def test_every_name_in_rules_and_dashboard_is_exported(exported):
    names, labels = exported
    for expression in expressions():
        used = set(_NAME.findall(expression)) - labels
        assert used - OF_PROMETHEUS <= names, expression
        for selector in _SELECTOR.findall(expression):
            assert set(re.findall(r"([a-z_]+)\s*(?:=|!=)", selector)) <= labels, expression
        for by in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression):
            assert {label.strip() for label in by.split(",")} <= labels, expression


def test_each_alert_says_what_is_wrong_and_how_bad_that_is():
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("page", "ticket")
            assert rule["annotations"]["summary"]


def test_promtool_finds_nothing_wrong():
    promtool = needed("promtool", "prometheus")
    for kind, path in (("rules", RULES), ("config", DEPLOY / "prometheus" / "prometheus.yml")):
        done = subprocess.run([promtool, "check", kind, str(path)], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.system
@pytest.mark.timeout(180)
def test_a_real_prometheus_scrapes_a_process_and_evaluates_the_rules(tmp_path):
    target, port = free_port(), free_port()
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "200ms", "evaluation_interval": "200ms"}
    config["rule_files"] = [str(RULES)]
    config["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{target}"]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    (tmp_path / "shop.py").write_text(
        "from zmqservices.rpc import rpc\nfrom zmqservices.timer import timer\nfrom zmqservices.events import EventDispatcher\n"
        "class Shop:\n    name = 'shop'\n    dispatch = EventDispatcher()\n"
        "    @timer(0.1)\n    def tick(self):\n        self.dispatch('ticked', 1)\n"
        "    @rpc\n    def sell(self):\n        return 1\n"
    )
    command = [sys.executable, "-m", "zmqservices", "run", "shop", "--metrics-port", str(target)]
    command += ["--directory", f"local:{free_port()}", "-d", f"JOURNAL_FOLDER={tmp_path / 'journals'}"]
    prometheus = [
        needed("prometheus", "prometheus"), f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--storage.tsdb.path={tmp_path / 'data'}", "--log.level=warn",
    ]  # fmt: skip
    with (tmp_path / "out").open("w") as out:
        processes = [
            subprocess.Popen(each, cwd=tmp_path, stdout=out, stderr=subprocess.STDOUT) for each in (command, prometheus)
        ]
    try:

        def ask(path, **query):
            try:
                url = f"http://127.0.0.1:{port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
                with urllib.request.urlopen(url, timeout=5) as response:
                    return json.load(response)["data"]
            except OSError:
                return None

        def value_of(query):
            data = ask("query", query=query)
            return data and data["result"] and float(data["result"][0]["value"][1])

        eventually(lambda: value_of('up{job="zmqservices"}') == 1, timeout=40)
        eventually(lambda: (value_of('zmqservices_worker_duration_seconds_count{method="tick"}') or 0) > 3, timeout=40)
        assert value_of('messaging_client_sent_messages_total{messaging_destination_name="shop:ticked"}') > 0
        (scraped,) = ask("targets")["activeTargets"]
        assert (scraped["health"], scraped["lastError"]) == ("up", "")
        rules = eventually(lambda: [
            rule for group in ask("rules")["groups"] for rule in group["rules"] if rule["health"] != "unknown"
        ], timeout=40)  # fmt: skip
        assert {rule["health"] for rule in rules} == {"ok"}, rules
        for expression in expressions():
            # The dashboard's own variables, as Grafana would fill them in.
            filled = expression.replace("$__rate_interval", "5s").replace("$service", ".*")
            assert ask("query", query=filled) is not None, expression
        complaints = [line for line in (tmp_path / "out").read_text().splitlines() if "level=error" in line]
        assert not complaints
    finally:
        for process in processes:
            process.terminate()
        end = time.monotonic() + 20
        for process in processes:
            process.wait(max(end - time.monotonic(), 0.1))
