"""A real Prometheus with the configuration and the rules of deploy/, and what it says."""

import json
import urllib.parse
import urllib.request

import yaml

from tests.deploy.manifests import DEPLOY
from tests.discovery.engine_servers import needed
from tests.ports import free_port

RULES = DEPLOY / "prometheus" / "zmqservices.rules.yml"
DASHBOARD = DEPLOY / "grafana" / "zmqservices.json"


def of_rules():
    """The PromQL of the alert rules."""
    return [rule["expr"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def of_dashboard():
    """The PromQL of the dashboard, by the title of its panel."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [(panel["title"], target["expr"]) for panel in panels for target in panel["targets"]]


class Prometheus:
    """Scrapes the `ports` of this host each `interval`. `command` starts it; the others ask it."""

    def __init__(self, folder, ports, interval="500ms"):
        self.port = free_port()
        config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": interval, "evaluation_interval": interval}
        config["rule_files"] = [str(RULES)]
        config["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{port}" for port in ports]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.command = [
            needed("prometheus", "prometheus"), f"--config.file={folder / 'prometheus.yml'}",
            f"--web.listen-address=127.0.0.1:{self.port}", f"--storage.tsdb.path={folder / 'data'}", "--log.level=warn",
        ]  # fmt: skip

    def ask(self, path, **query):
        """The `data` of an answer of its API; None while it does not answer."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return json.load(response)["data"]
        except OSError:
            return None

    def results_of(self, expression):
        """The series that a query gives now, each as its labels and its value. The variables of Grafana are filled in."""
        filled = expression.replace("$__rate_interval", "10s").replace("$service", ".*")
        data = self.ask("query", query=filled)
        assert data is not None, f"Prometheus does not take {expression}"
        return [(one["metric"], float(one["value"][1])) for one in data["result"]]

    def targets(self):
        """The health and the last error of each target, by its address."""
        found = (self.ask("targets") or {}).get("activeTargets", [])
        return {one["labels"]["instance"]: (one["health"], one["lastError"]) for one in found}

    def rules(self):
        """The health and the last error of each rule, by its name."""
        found = [rule for group in (self.ask("rules") or {}).get("groups", []) for rule in group["rules"]]
        return {one["name"]: (one["health"], one.get("lastError", "")) for one in found}
