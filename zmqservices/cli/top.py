"""`zmqservices top`: the services of a cluster with their rates, latencies, queues and errors, again and again."""

from __future__ import annotations

import logging
import signal
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from zmqservices import configuration
from zmqservices.cli import complete
from zmqservices.cli.jsontext import to_json
from zmqservices.cli.listing import looked_up
from zmqservices.cli.options import Flags, takes_settings
from zmqservices.cli.top_view import TopView
from zmqservices.exceptions import CommandError

if TYPE_CHECKING:
    from zmqservices.cli.node_watch import NodeWatch
    from zmqservices.cli.top_screen import TopScreen

#: Seconds after which the screen is drawn anew at the latest, as answers come when they come.
REDRAW = 0.25

SORTS = ("name", "rate", "p99", "flight", "queue", "errors", "backlog")


@click.command("top")
@click.argument("wanted", required=False, default="", metavar="[FILTER]", shell_complete=complete.services)
@takes_settings
@click.option(
    "--interval", type=click.FloatRange(0.1), default=1.0, metavar="S", show_default=True,
    help="Seconds between two questions.",
)  # fmt: skip
@click.option("--sort", type=click.Choice(SORTS), default="name", show_default=True, help="What the rows are sorted by.")
@click.option("--reverse", is_flag=True, help="Sort the other way round.")
@click.option("--services", "only_services", is_flag=True, help="No rows of instances.")
@click.option("--once", is_flag=True, help="Print the rows once, as text, and end.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows once, as JSON, and end.")
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), default=2.0, metavar="S", show_default=True,
    help="Seconds that the directory, and then each node, gets to answer.",
)  # fmt: skip
def top_command(
    wanted: str, flags: Flags, interval: float, sort: str, reverse: bool, only_services: bool, once: bool, as_json: bool,
    timeout: float,
) -> None:
    """Watch the services of the cluster, and their instances: calls and errors a second, p50 and p99, workers that run, calls
    and events that wait.

    FILTER is a part of the names of services, instances or hosts that are wanted. Keys: q quits; n, r, p, f, u, e and b sort
    by name, rate, p99, calls in flight, queue, errors and backlog, R the other way round; i hides instances; / filters; the
    arrows move. Rates are those of the last five seconds.

    \b
    Examples:
        zmqservices top
        zmqservices top orders --sort p99
        zmqservices top --once --services

    Needs the extra `top`, except with --once and --json.
    """  # fmt: skip
    from zmqservices.cli.node_watch import NodeWatch  # It brings ZeroMQ.

    view = TopView(sort, reverse, not only_services, wanted)
    screen = None if once or as_json else _screen()
    settings = flags.setup()
    _raise_limits()
    with looked_up(settings, timeout) as directory:
        # A question that is asked once must not be given up too soon.
        watch = NodeWatch(directory, settings, timeout, *(() if screen else (timeout,)))
        try:
            if screen is None:
                _print(watch, view, interval, as_json)
            else:
                _show(watch, view, interval, screen, f"namespace {configuration.namespace(settings)}")
        finally:
            watch.close()


def _raise_limits() -> None:
    from discovery.accepting import raise_soft_limit

    raise_soft_limit()  # A connection to each node.


def _screen() -> TopScreen:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise CommandError("top needs a terminal; --once prints the rows as text, and --json as JSON")
    try:
        from zmqservices.cli.top_screen import TopScreen
    except ImportError as error:
        raise CommandError(f"{error}; --once and --json do without") from error
    return TopScreen()


def _print(watch: NodeWatch, view: TopView, interval: float, as_json: bool) -> None:
    from zmqservices.cli.cluster_rows import arranged
    from zmqservices.cli.cluster_table import plain

    watch.ask(wait=True)
    time.sleep(interval)  # Rates need two answers.
    watch.ask(wait=True)
    rows = arranged(watch.rows(), view.sort, view.is_reversed, view.wanted, view.with_instances)
    if as_json:
        click.echo(to_json([row.to_dict() for row in rows], indent=2))
    elif rows:
        click.echo(plain(rows))
    else:
        click.echo(f"nothing to show; {watch.describe()}", err=True)


def _show(watch: NodeWatch, view: TopView, interval: float, screen: TopScreen, about: str) -> None:
    from zmqservices.cli.cluster_rows import arranged
    from zmqservices.cli.keyboard import Keyboard

    # A line of a log would be written into the picture.
    logging.getLogger().addHandler(logging.NullHandler())
    signal.signal(signal.SIGTERM, _end)
    with Keyboard(sys.stdin.fileno()) as keyboard, screen:
        due = 0.0
        while not (view.is_over or keyboard.is_closed):
            if time.monotonic() >= due:
                watch.ask()
                due = time.monotonic() + interval
            rows = arranged(watch.rows(), view.sort, view.is_reversed, view.wanted, view.with_instances)
            # An offset beyond the last row would have to be undone key by key.
            view = replace(view, offset=min(view.offset, max(0, len(rows) - 1)))
            screen.draw(rows, view, about)
            for key in keyboard.read(min(REDRAW, due - time.monotonic())):
                view = view.pressed(key)


def _end(_number: int, _frame: object) -> None:
    # As an exception, so that the terminal is put in order on the way out.
    sys.exit(128 + signal.SIGTERM)
