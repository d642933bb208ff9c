"""`zmqservices check`: examines this host, its settings and the cluster, and says how to correct what is wrong."""

from __future__ import annotations

import os

import click

from zmqservices.cli.diagnosis import ERROR, OK, WARNING, Finding
from zmqservices.cli.jsontext import to_json
from zmqservices.cli.listing import as_json
from zmqservices.cli.options import Flags, takes_settings
from zmqservices.configuration import config
from zmqservices.log_helpers import escaped

COLOURS = {OK: "green", WARNING: "yellow", ERROR: "red"}


@click.command("check")
@takes_settings
@as_json
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), default=3.0, metavar="S", show_default=True,
    help="Seconds in which the directory, and each node, must answer.",
)  # fmt: skip
def check_command(flags: Flags, as_json: bool, timeout: float) -> int:
    """Examine this host, the settings and the cluster, and say how to correct what is wrong.

    It checks the settings and the libraries that they need, the directory and each of its registries, the address that this
    host announces, the ports that settings name, the limit of open files, the disk of the journals, and the nodes: whether
    they answer, their clocks, versions and certificates. It changes nothing.

    \b
    Examples:
        zmqservices check
        zmqservices check -c config.yaml --json

    Exit codes: 0 no errors (there may be warnings), 1 at least one error, 2 wrong command line or configuration file.
    """
    from zmqservices.cli.examination import examine  # Imported here: it imports ZeroMQ.

    settings = flags.resolve()
    config.setup(settings)
    source = flags.config_file or "the settings of the environment and the command line"
    findings = []
    for finding in examine(settings, source, timeout):
        findings.append(finding)
        if not as_json:
            show(finding)
    if as_json:
        click.echo(to_json([one._asdict() for one in findings], indent=2))
    return int(any(one.level == ERROR for one in findings))


def show(finding: Finding) -> None:
    """Print a line for the finding, and a line for what to do; in colours on a terminal, unless NO_COLOR is set."""
    level = finding.level.ljust(len(WARNING))
    if not os.environ.get("NO_COLOR"):
        level = click.style(level, COLOURS[finding.level], bold=finding.level != OK)
    click.echo(f"{level}  {finding.check.ljust(12)}  {escaped(finding.text)}")
    if finding.mend:
        click.echo(f"{' ' * len(WARNING)}  {' ' * 12}  -> {escaped(finding.mend)}")
