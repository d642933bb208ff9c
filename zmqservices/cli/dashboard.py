"""`zmqservices dashboard`: the live map of the cluster, as a web page."""

from __future__ import annotations

import click

from zmqservices.cli.options import Flags, takes_settings

#: Where the page is, unless --port says otherwise.
PORT = 8790


@click.command("dashboard")
@takes_settings
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0 takes any free port.")
@click.option("--address", default="127.0.0.1", metavar="HOST", show_default=True, help="Where to listen.")
@click.option("--allow-remote", is_flag=True, help="Allow an --address that others reach. Nobody is asked for a password.")
@click.option(
    "--allowed-host", "names", multiple=True, metavar="NAME",
    help="A name under which the page is opened, besides localhost and addresses; may be repeated.",
)  # fmt: skip
@click.option("--operate", is_flag=True, help="Allow the page to requeue and drop dead letters; without it, it only shows.")
def dashboard_command(
    flags: Flags, port: int, address: str, allow_remote: bool, names: tuple[str, ...], operate: bool
) -> None:
    """Serve a web page with a live map: services and instances, who calls whom, events, errors, what happened.

    It asks the nodes themselves. Ctrl-C ends it.

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
