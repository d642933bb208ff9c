"""The command line of the bench."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from bench import cases, lines, rounds, subjects, table
from bench.stage import Stage

Command = Callable[..., Any]


def takes_json(command: Command) -> Command:
    """The option of every measuring command that saves its results."""
    return click.option("--json", "path", metavar="FILE", help="Append a line of JSON per measurement to FILE.")(command)


def takes_rounds(seconds: float, count: int) -> Callable[[Command], Command]:
    """The options of commands that measure in rounds."""

    def add(command: Command) -> Command:
        command = click.option(
            "--seconds", type=click.FloatRange(0.01), default=seconds, show_default=True, help="Seconds of one measurement."
        )(command)  # fmt: skip
        return click.option(
            "--rounds", "count", type=click.IntRange(1), default=count, show_default=True,
            help="Rounds; each round measures every subject once.",
        )(command)  # fmt: skip

    return add


def split(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


class Bench(click.Group):
    """A group whose --help shows the whole summary of each command, and explains each case and subject."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        commands = [(name, self.commands[name].get_short_help_str(limit=1000)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(commands)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        named = [(case.name, case.title) for case in cases.ALL.values()]
        groups = [(name, ", ".join(members)) for name, members in cases.GROUPS.items() if name != "all"]
        with formatter.section("Cases: what the clients do"):
            formatter.write_dl([*named, *groups, ("all", "every case")])
        with formatter.section("Subjects: what is measured"):
            formatter.write_dl([(name, subjects.find(name).about) for name in subjects.ALL])


@click.group(cls=Bench, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@takes_rounds(1.0, 5)
@click.option(
    "--cases", "case_names", default="usual", show_default=True,
    help="Names of cases or groups of cases, see below; separated by commas.",
)  # fmt: skip
@click.option(
    "--subjects", "subject_names", default="usual", show_default=True,
    help=f"Subjects, see below, or groups of them: {', '.join(subjects.GROUPS)}.",
)  # fmt: skip
@click.option("--peers", "peer_names", default="", help="Other products to measure as well: their names, or all.")
@takes_json
@click.pass_context
def bench(
    context: click.Context, count: int, seconds: float, case_names: str, subject_names: str, peer_names: str, path: str | None
) -> None:
    """Measure how fast zmqservices is on this machine, and compare it with bare pyzmq and with other products.

    Subjects are measured in turn, round by round, so that changes of the machine's speed affect all of them alike. Without a
    command, calls per second, latency and CPU time per call are measured, beside those of bare pyzmq: a minute or two.

    \b
    Examples:
        python -m bench
        python -m bench --cases 64,1m --subjects zmqservices,pyzmq-hub --rounds 9 --json new.jsonl
    """
    if context.invoked_subcommand is None:
        wanted = [*split(subject_names), *("peers" if peer_names == "all" else word for word in split(peer_names))]
        measure(wanted, split(case_names), count, seconds, path)


@bench.command("peers")
@takes_rounds(2.0, 5)
@click.option(
    "--only", default="peers", show_default=True,
    help=f"The products to measure: peers for all, or some of {', '.join(subjects.PEERS)}.",
)  # fmt: skip
@click.option(
    "--cases", "case_names", default="peers", show_default=True,
    help="Names of cases or groups of cases, as for `python -m bench`.",
)  # fmt: skip
@click.option("--install-only", is_flag=True, help="Only make the virtual environments, and measure nothing.")
@takes_json
def peers(count: int, seconds: float, only: str, case_names: str, install_only: bool, path: str | None) -> None:
    """Measure calls of gRPC, NATS, zerorpc, Nameko and others beside ours, each in a virtual environment under .bench/."""
    if install_only:
        sys.exit(install(subjects.names_of(split(only))))
    measure(["pyzmq", "pyzmq-hub", "zmqservices", *split(only)], split(case_names), count, seconds, path)


@bench.command("growth")
@click.option("--axis", type=click.Choice(["instances", "clients", "in-flight", "all"]), default="all", show_default=True)
@click.option("--most", type=click.IntRange(1), help="Skip numbers larger than this.")
@takes_rounds(2.0, 3)
@takes_json
def growth(axis: str, most: int | None, count: int, seconds: float, path: str | None) -> None:
    """Measure CPU time per call and memory as instances, clients or calls in flight grow, to 1,000, 1,000 and 10,000."""
    from bench import growth

    axes = ["instances", "clients", "in-flight"] if axis == "all" else [axis]
    collect(path, growth.run(axes, most, count, seconds), growth.text)


@bench.command("openloop")
@click.option("--seconds", type=click.FloatRange(0.1), default=10.0, show_default=True, help="Seconds for each rate.")
@click.option("--spin", type=click.FloatRange(0.0), default=500.0, show_default=True, help="Microseconds of work in each call.")
@click.option(
    "--parts", type=click.IntRange(1), default=1, show_default=True,
    help="Parts of that work; other calls run between two parts.",
)  # fmt: skip
@click.option("--timeout", type=click.FloatRange(0.01), default=1.0, show_default=True, help="Seconds that a call may take.")
@click.option(
    "--loads", default="0.5,0.8,0.9,1.0,1.2,1.5,2.0", show_default=True,
    help="Rates to try, as multiples of the highest rate that the service can answer.",
)  # fmt: skip
@click.option(
    "--subjects", "names", default="zmqservices", show_default=True,
    help="Our own subjects; zmqservices-100 and zmqservices-auto have other numbers of workers.",
)  # fmt: skip
@takes_json
def openloop(seconds: float, spin: float, parts: int, timeout: float, loads: str, names: str, path: str | None) -> None:
    """Measure goodput and latency while calls arrive at a fixed rate, up to twice what can be served.

    Calls are sent whether or not earlier ones are answered. Latency counts from the time at which a call was due.
    """
    from bench import openloop

    found = openloop.run([float(load) for load in split(loads)], seconds, spin / 1e6, timeout, split(names), parts)
    collect(path, found, openloop.text)


@bench.command("soak")
@click.option("--minutes", type=click.FloatRange(0.01), default=10.0, show_default=True)
@click.option(
    "--load",
    type=click.FloatRange(0.01, 1.0),
    default=0.25,
    show_default=True,
    help="Share of the rate of a closed loop. Single calls cost a client about twice as much as the batches of a closed loop, "
    "so a quarter is half of what it can send.",
)
@click.option("--every", type=click.FloatRange(0.1), default=5.0, show_default=True, help="Seconds between two samples.")
@takes_json
def soak(minutes: float, load: float, every: float, path: str | None) -> None:
    """Record memory, greenlets and open files of a server under half load, for minutes: none of them may grow."""
    from bench import soak

    collect(path, soak.run(minutes * 60, load, every), soak.text)


@bench.command("observability")
@click.option(
    "--in-flight", "windows", default="64,1", show_default=True,
    help="Numbers of calls in flight, separated by commas.",
)  # fmt: skip
@takes_rounds(0.1, 30)
@takes_json
def observability(windows: str, count: int, seconds: float, path: str | None) -> None:
    """Measure CPU time per call with nothing on, with metrics, with logs of slow calls and of all calls, and with traces.

    Each slice with something on lies between two with nothing on, so one run gives the ratios.
    """
    from bench import observability

    collect(path, observability.run([int(window) for window in split(windows)], count, seconds), observability.text)


@bench.command("security")
@takes_rounds(1.0, 7)
@takes_json
def security(count: int, seconds: float, path: str | None) -> None:
    """Measure calls, large values and the first call of a new client, with SECURITY and without, in turns."""
    from bench import security

    collect(path, security.run(count, seconds), security.text)


@bench.command("events")
@click.option("--subscribers", default="1,4", show_default=True, help="Numbers of subscribers. Each gets every event.")
@click.option("--events", type=click.IntRange(1), default=20_000, show_default=True, help="Events of one measurement.")
@click.option("--waiting", type=click.IntRange(1), metavar="N", help="Measure only memory and disk while N events wait.")
@click.option(
    "--subjects", "names", default="pyzmq,best-effort,reliable", show_default=True,
    help="Some of pyzmq, best-effort, reliable, nats, nameko; or all.",
)  # fmt: skip
@click.option("--rounds", "count", type=click.IntRange(1), default=3, show_default=True, help="Interleaved rounds.")
@takes_json
def events(subscribers: str, events: int, waiting: int | None, names: str, count: int, path: str | None) -> None:
    """Measure events per second and CPU time per event, best-effort and reliable, beside bare PUB and SUB and other products."""
    from bench import events as measured

    wanted = measured.SUBJECTS if names == "all" else split(names)
    unknown = sorted(set(wanted) - set(measured.SUBJECTS))
    if unknown:
        raise click.UsageError(f"{unknown[0]!r} has no events to measure; there are {', '.join(measured.SUBJECTS)}, all")
    numbers = [int(n) for n in split(subscribers)]
    collect(path, measured.waiting(waiting) if waiting else measured.run(numbers, events, count, wanted), measured.text)


@bench.command("wire")
@click.option("--repeats", type=click.IntRange(1), default=7, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.001), default=0.05, show_default=True, help="Seconds of each repeat.")
@takes_json
def wire(repeats: int, seconds: float, path: str | None) -> None:
    """Measure encoding and decoding alone, without sockets: nanoseconds per message, beside bare msgpack."""
    from bench import wire

    collect(path, wire.run(repeats, seconds), wire.text)


@bench.command("directory")
@click.option("--of", "kinds", default="registry", show_default=True, help="The directories to measure: registry, etcd, or both.")
@click.option("--records", "numbers", default="1000,3000,10000", show_default=True, help="Records in the directory.")
@click.option(
    "--clients", type=click.IntRange(2), default=500, show_default=True,
    help="Clients; they share at most twenty processes.",
)  # fmt: skip
@click.option(
    "--services", type=click.IntRange(1, 100), default=10, show_default=True,
    help="Services that each client asks for.",
)  # fmt: skip
@click.option("--rounds", "count", type=click.IntRange(1), default=1, show_default=True)
@takes_json
def directory(kinds: str, numbers: str, clients: int, services: int, count: int, path: str | None) -> None:
    """Measure a directory of up to 10,000 records with 500 clients that each ask for 10 of 100 services.

    How long it takes until all are ready that start together, CPU and memory at rest, and how soon a change is seen.
    """
    from bench import directory

    found = directory.run(split(kinds), [int(number) for number in split(numbers)], clients, services, count)
    collect(path, found, directory.text)


@bench.command("dashboard")
@click.option("--instances", type=click.IntRange(1), default=200, show_default=True, help="Processes, a service in each.")
@click.option("--seconds", type=click.FloatRange(1.0), default=20.0, show_default=True, help="Seconds of each measurement.")
@click.option("--kills", type=click.IntRange(0), default=10, show_default=True, help="Processes that are killed, one by one.")
@takes_json
def dashboard(instances: int, seconds: float, kills: int, path: str | None) -> None:
    """Measure the live map in a real browser with 200 processes: CPU time, frames, bytes, and how soon it shows a killed one."""
    from bench import dashboard

    collect(path, dashboard.run(instances, seconds, kills), dashboard.text)


@bench.command("imports")
@click.option("--repeats", type=click.IntRange(1), default=9, show_default=True, help="New processes for each import.")
@takes_json
def imports(repeats: int, path: str | None) -> None:
    """Measure how long importing a client and a service takes, beyond their dependencies."""
    from bench import imports

    collect(path, imports.run(repeats), imports.text)


@bench.command("report")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--into", default="docs", show_default=True, type=click.Path(file_okay=False), help="Folder for page and plots.")
def report(files: tuple[str, ...], into: str) -> None:
    """Write saved results as a page of reStructuredText, with plots."""
    from bench import report

    for made in report.write(read(files), into):
        click.echo(made)


@bench.command("compare")
@click.argument("old", type=click.Path(exists=True, dir_okay=False))
@click.argument("new", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--against", default="pyzmq", show_default=True,
    help="Correct for the drift of the machine by this subject; '' for no correction.",
)  # fmt: skip
@click.option(
    "--least", type=click.FloatRange(0.0, 1.0), default=0.03, show_default=True,
    help="The smallest change that counts, as a part of the value.",
)  # fmt: skip
def compare(old: str, new: str, against: str, least: float) -> None:
    """Compare two files of saved results. Exits with 1 if there is a regression beyond the noise."""
    from bench import compare

    found = compare.compare(read([old]), read([new]), against or None, least)
    click.echo(compare.text(found))
    sys.exit(any(change.is_regression for change in found))


def read(files: Any) -> list[dict[str, Any]]:
    try:
        return lines.read(files)
    except lines.BadLine as exc:
        raise click.ClickException(str(exc)) from exc


def install(names: list[str]) -> int:
    """Make virtual environments. Returns 1 when one could not be made."""
    from bench import venvs

    failed = 0
    for name in names:
        try:
            click.echo(f"{name}: {venvs.interpreter(subjects.find(name))}")
        except venvs.Unavailable as exc:
            failed = 1
            click.echo(f"{name}: NOT AVAILABLE: {exc}")
    return failed


def measure(words: list[str], case_names: list[str], count: int, seconds: float, path: str | None) -> None:
    try:
        names, chosen = subjects.names_of(words), cases.cases_of(case_names)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    with Stage() as stage:
        collect(path, rounds.run(stage, names, chosen, count, seconds), table.text)


def collect(path: str | None, results: Any, text: Callable[[list[dict[str, Any]]], str]) -> None:
    """Save results as they come, and print all at the end, also those measured before Ctrl-C."""
    writer, found = lines.Writer(path), []
    try:
        for line in results:
            writer.write(line)
            found.append(line)
            progress(line)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
    finally:
        writer.close()
    click.echo(text(found))


def progress(line: dict[str, Any]) -> None:
    """Print a dot per measurement on a terminal, to show progress."""
    if sys.stderr.isatty():
        click.echo("!" if "failed" in line else ".", nl=False, err=True)


def main() -> None:
    if sys.platform != "linux":
        sys.exit("the bench reads /proc to know what servers cost; it runs on Linux")
    bench(prog_name="python -m bench")
