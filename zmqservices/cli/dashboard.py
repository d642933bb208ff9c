"""`zmqservices dashboard`: serves the live map of the cluster as a web page."""

from __future__ import annotations

import click

from zmqservices.cli.options import Flags, takes_settings

#: The default port of the page.
PORT = 8790


@click.command("dashboard")
@takes_settings
@click.option(
    "--port", type=click.IntRange(0, 65535), default=PORT, show_default=True,
    help="The port of the page; 0 takes any free port.",
)  # fmt: skip
@click.option("--address", default="127.0.0.1", metavar="HOST", show_default=True, help="The address to listen at.")
@click.option(
    "--allow-remote", is_flag=True,
    help="Allow an --address that other hosts can reach. The dashboard asks nobody for a password.",
)  # fmt: skip
@click.option(
    "--allowed-host", "names", multiple=True, metavar="NAME",
    help="A host name in the URL of the page, besides localhost and IP addresses; may be repeated.",
)  # fmt: skip
@click.option(
    "--operate", is_flag=True,
    help="Allow the page to requeue and drop dead letters. Without this option, the page changes nothing.",
)  # fmt: skip
def dashboard_command(
    flags: Flags, port: int, address: str, allow_remote: bool, names: tuple[str, ...], operate: bool
) -> None:
    """Serve a web page with a live map: services and instances, who calls whom, events, errors, what happened.

    The dashboard asks the nodes of all services each second, and prints the URL of the page. Ctrl-C ends it.

    \b
    Examples:
        zmqservices dashboard
        zmqservices dashboard --port 0 --operate
    """
    import signal

    import gevent
    from gevent.event import Event

    from zmqservices.dashboard.server import Dashboard

    settings = flags.setup()
    served = Dashboard(settings, address, port, operate, allow_remote, names)
    ended = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(number, ended.set)
    url = served.start()
    try:
        click.echo(f"dashboard: {url}")
        ended.wait()
    finally:
        served.stop()
