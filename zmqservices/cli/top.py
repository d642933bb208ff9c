"""`zmqservices top`: watches the services of a cluster, with their rates, durations, queues and errors."""

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
from zmqservices.cli.listing import did_you_mean, looked_up
from zmqservices.cli.options import Flags, takes_settings
from zmqservices.cli.top_view import TopView
from zmqservices.exceptions import CommandError
from zmqservices.log_helpers import escaped

if TYPE_CHECKING:
    from zmqservices.cli.node_watch import NodeWatch
    from zmqservices.cli.top_screen import TopScreen

#: Seconds between two drawings of the screen, at most: answers may come at any time.
REDRAW = 0.25

SORTS = ("name", "rate", "p99", "flight", "queue", "oldest", "errors", "backlog")


@click.command("top")
@click.argument("wanted", required=False, default="", metavar="[FILTER]", shell_complete=complete.services)
@takes_settings
@click.option(
    "--interval", type=click.FloatRange(0.1), default=1.0, metavar="S", show_default=True,
    help="Seconds between two questions to each node.",
)  # fmt: skip
@click.option("--sort", type=click.Choice(SORTS), default="name", show_default=True, help="Sort the rows by this column.")
@click.option("--reverse", is_flag=True, help="Reverse the order.")
@click.option("--services", "only_services", is_flag=True, help="Show only services, and no instances.")
@click.option("--once", is_flag=True, help="Print the rows once, as text, and end.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows once, as JSON, and end.")
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), default=2.0, metavar="S", show_default=True,
    help="Seconds in which the directory, and then each node, must answer.",
)  # fmt: skip
def top_command(
    wanted: str, flags: Flags, interval: float, sort: str, reverse: bool, only_services: bool, once: bool, as_json: bool,
    timeout: float,
) -> None:
    """Watch the services of the cluster and their instances: calls and errors per second, durations, queues, waiting events.

    Shows only rows whose service, instance or host has FILTER in its name. Rates and durations cover the last five seconds;
    P50 and P99 mean that 50 % and 99 % of the calls took at most that long; OLDEST is how long the longest running call has run.

    Keys: q quits; n, r, p, f, u, o, e and b sort by name, rate, p99, calls in flight, queue, oldest, errors and backlog, and R
    reverses the order; i hides instances; / filters; the arrow keys scroll.

    \b
    Examples:
        zmqservices top
        zmqservices top orders --sort p99
        zmqservices top --once --services

    Needs the extra `top`, except with --once and --json.
    """  # fmt: skip
    from zmqservices.cli.node_watch import NodeWatch  # Imported here: it imports ZeroMQ.

    view = TopView(sort, reverse, not only_services, wanted)
    screen = None if once or as_json else _screen()
    settings = flags.setup()
    _raise_limits()
    with looked_up(settings, timeout) as directory:
        # With --once, a node gets the whole timeout for its connection.
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
        raise CommandError("top needs a terminal; use --once to print the rows as text, or --json")
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
        for row in rows:
            if row.problem:
                click.echo(escaped(f"{row.instance or row.service}: {row.problem}"), err=True)
    else:
        known = {service.service for service, _ in watch.rows()}
        what = f"nothing has {view.wanted!r} in its name; {did_you_mean(view.wanted, known)}" if known else "nothing to show; "
        click.echo(f"{what}{watch.describe()}", err=True)


def _show(watch: NodeWatch, view: TopView, interval: float, screen: TopScreen, about: str) -> None:
    from zmqservices.cli.cluster_rows import arranged
    from zmqservices.cli.keyboard import Keyboard

    # A log line would be written into the screen.
    logging.getLogger().addHandler(logging.NullHandler())
    signal.signal(signal.SIGTERM, _end)
    with Keyboard(sys.stdin.fileno()) as keyboard, screen:
        due = 0.0
        while not (view.is_over or keyboard.is_closed):
            if time.monotonic() >= due:
                watch.ask()
                due = time.monotonic() + interval
            rows = arranged(watch.rows(), view.sort, view.is_reversed, view.wanted, view.with_instances)
            # With an offset beyond the last row, the first presses of an arrow key would do nothing.
            view = replace(view, offset=min(view.offset, max(0, len(rows) - 1)))
            screen.draw(rows, view, about)
            for key in keyboard.read(min(REDRAW, due - time.monotonic())):
                view = view.pressed(key)


def _end(_number: int, _frame: object) -> None:
    # Ends with an exception, so that the terminal is restored on the way out.
    sys.exit(128 + signal.SIGTERM)
