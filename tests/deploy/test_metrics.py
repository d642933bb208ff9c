"""Alert rules and dashboard name what the code exports; tests/system/test_everything_on.py gives them to a real Prometheus."""

import re
import subprocess

import click
import pytest
import yaml

from tests.deploy.manifests import DEPLOY
from tests.deploy.prometheus_server import RULES, of_dashboard, of_rules
from tests.discovery.engine_servers import needed
from zmqservices.cli.main import cli
from zmqservices.observability.prometheus import LABELS, MetricsServer

#: Metrics that Prometheus makes itself, and words of PromQL.
OF_PROMETHEUS = {"up"}
_NAME = re.compile(r"\b((?:zmqservices|rpc|messaging|http|process)_[a-z_]+|up)(?=[\s{\[)>]|$)")
_SELECTOR = re.compile(r"\{([^}]*)\}")


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
    for expression in [*of_rules(), *(expression for _, expression in of_dashboard())]:
        used = set(_NAME.findall(expression)) - labels
        assert used - OF_PROMETHEUS <= names, expression
        for selector in _SELECTOR.findall(expression):
            assert set(re.findall(r"([a-z_]+)\s*(?:=|!=)", selector)) <= labels, expression
        for by in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression):
            assert {label.strip() for label in by.split(",")} <= labels, expression


def test_each_alert_says_what_is_wrong_how_bad_that_is_and_what_to_do():
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("page", "ticket")
            assert rule["annotations"]["summary"]
            mend = rule["annotations"]["description"]
            for words in re.findall(r"`zmqservices ([^`]+)`", mend):
                assert has_command(words.split()), mend


def has_command(words):
    """Whether the command line has this command with these options."""
    command = cli
    for word in words:
        if word.startswith("-"):
            return any(word in parameter.opts for parameter in command.params)
        command = command.get_command(click.Context(command), word) if isinstance(command, click.Group) else None
        if command is None:
            return False
    return True


def test_promtool_finds_nothing_wrong():
    promtool = needed("promtool", "prometheus")
    for kind, path in (("rules", RULES), ("config", DEPLOY / "prometheus" / "prometheus.yml")):
        done = subprocess.run([promtool, "check", kind, str(path)], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stdout + done.stderr
