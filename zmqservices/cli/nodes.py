"""`zmqservices ping`, `info` and `stats`: ask the nodes of services, and show their answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from zmqservices.cli import complete
from zmqservices.cli.callees import add_callees, callee_rows, callees_of, ejection_lines
from zmqservices.cli.happenings import happened, happened_rows, longest, running_rows
from zmqservices.cli.jsontext import to_json
from zmqservices.cli.listing import as_json, columns, did_you_mean, looked_up, services_of
from zmqservices.cli.options import Flags, takes_settings
from zmqservices.exceptions import RemoteUnavailable, UnknownService, ZmqServicesError
from zmqservices.log_helpers import escaped
from zmqservices.observability.histogram import Histogram
from zmqservices.observability.node_address import NodeAddress, node_address

if TYPE_CHECKING:
    from discovery import Seen

#: The most characters of an error's text that `stats` shows: the end of the text may matter.
LONGEST_ERROR = 200

#: The most nodes that are asked at the same time.
ASKED_AT_ONCE = 16

service_argument = click.argument("service", required=False, shell_complete=complete.services)
timeout_option = click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), default=3.0, metavar="S", show_default=True,
    help="Seconds in which the directory, and then each node, must answer.",
)  # fmt: skip


class NodeAnswer(NamedTuple):
    """The answer of one node and the `seconds` that it took; or None and the `problem`.

    `asked_at`: the time of the question, in seconds since 1970.
    """

    address: str
    services: list[str]
    seconds: float
    answer: dict[str, Any] | None
    problem: str
    asked_at: float = 0.0


def ask_nodes(flags: Flags, service: str | None, method: str, timeout: float) -> list[NodeAnswer]:
    """Call an operators' method of each node that runs `service` (None: any service).

    Raises UnknownService if no instance of `service` is listed, and RemoteUnavailable if no node can be asked.
    """
    settings = flags.setup()
    with looked_up(settings, timeout) as directory:
        view = directory.view()
        known = services_of(view)
        if service is not None and service not in known:
            hint = f"no instance is known; {did_you_mean(service, known)}{directory.describe()}"
            raise UnknownService(service, hint)
        nodes = nodes_of(view.records.values(), service)
    if not nodes:
        what = "no service" if service is None else f"no node of {service!r}"
        raise RemoteUnavailable(
            f"{what} can be asked; a process with only @http and @timer methods needs the setting STATISTICS: true for that"
        )
    return ask(settings, nodes, method, timeout)


def nodes_of(seen: Iterable[Seen], service: str | None) -> dict[NodeAddress, set[str]]:
    """The nodes of these instances, with the services of each. `service`: only nodes that run it."""
    nodes: dict[NodeAddress, set[str]] = {}
    for one in seen:
        record = one.record
        address = node_address(record)
        is_wanted = not record.service.startswith("events:") if service is None else record.service == service
        if address and is_wanted:
            nodes.setdefault(address, set()).add(record.service)
    return nodes


def ask(settings: dict[str, Any], nodes: dict[NodeAddress, set[str]], method: str, timeout: float) -> list[NodeAnswer]:
    """Call an operators' method of these nodes in parallel. The error of a node is in its NodeAnswer, and not raised."""
    if not nodes:
        return []
    with ThreadPoolExecutor(ASKED_AT_ONCE) as threads:
        found = [
            threads.submit(_ask, settings, node, sorted(services), method, timeout)
            for node, services in sorted(nodes.items(), key=lambda one: one[0].endpoint)
        ]
        return [one.result() for one in found]


def _ask(settings: dict[str, Any], node: NodeAddress, services: list[str], method: str, timeout: float) -> NodeAnswer:
    from zmqservices.cluster.operators import NODE
    from zmqservices.standalone.rpc import ServiceRpcProxy

    own = {**settings, "DIRECTORY": node.only(NODE), "serializer": "msgpack"}
    began, asked_at = time.monotonic(), time.time()
    try:
        with ServiceRpcProxy(NODE, own, timeout=timeout) as proxy:
            if method == "ping":
                proxy.ping()  # Connects, so that the measured call does not have to.
            began, asked_at = time.monotonic(), time.time()
            answer = getattr(proxy, method)()
    except ZmqServicesError as error:
        return NodeAnswer(node.endpoint, services, time.monotonic() - began, None, _problem(error))
    return NodeAnswer(node.endpoint, services, time.monotonic() - began, answer, "", asked_at)


def _problem(error: ZmqServicesError) -> str:
    from zmqservices.cluster.calls.peer import PeerStage  # Imported here: it imports ZeroMQ.

    # The usual case: the process has ended, or its host cannot be reached. The text of a call to a service tells much more.
    if isinstance(error, RemoteUnavailable) and str(error).endswith(f"is {PeerStage.CONNECTING.value})"):
        return "nothing can be connected to there; the process has ended, or its host cannot be reached"
    return f"{type(error).__name__}: {error}"


def complain_of(answers: Iterable[NodeAnswer]) -> None:
    """Name the nodes that did not answer on stderr. Raises RemoteUnavailable if no node answered."""
    answers = list(answers)
    for one in answers:
        if one.answer is None:
            click.echo(f"no answer from {one.address} ({', '.join(one.services)}): {one.problem}", err=True)
    if not any(one.answer for one in answers):
        raise RemoteUnavailable("no node has answered")


def _instances(one: NodeAnswer, service: str | None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (one.answer or {}).get("instances", [])
    return [instance for instance in found if service in (None, instance["service"])]


def _command(function: Callable[..., None]) -> Any:
    return service_argument(takes_settings(as_json(timeout_option(function))))


@click.command("ping")
@_command
def ping_command(service: str | None, flags: Flags, as_json: bool, timeout: float) -> None:
    """Show how long each node of a service, or of all services, takes to answer.

    \b
    Examples:
        zmqservices ping
        zmqservices ping orders --json
    """
    answers = ask_nodes(flags, service, "ping", timeout)
    told = [
        {"service": instance["service"], "instance": instance["instance"], "node": (one.answer or {}).get("node"),
         "address": one.address, "seconds": round(one.seconds, 6)}
        for one in answers for instance in _instances(one, service)
    ]  # fmt: skip
    if as_json:
        click.echo(to_json(told, indent=2))
    elif told:
        rows = [("SERVICE", "INSTANCE", "ADDRESS", "ANSWERED IN")]
        rows += [(one["service"], one["instance"], one["address"], f"{one['seconds'] * 1000:.1f} ms") for one in told]
        click.echo(columns(rows))
    complain_of(answers)


@click.command("info")
@_command
def info_command(service: str | None, flags: Flags, as_json: bool, timeout: float) -> None:
    """Show what each node of a service, or of all services, runs: versions, entrypoints, dependencies.

    \b
    Examples:
        zmqservices info
        zmqservices info orders
    """
    answers = ask_nodes(flags, service, "info", timeout)
    if as_json:
        click.echo(to_json([{**one.answer, "address": one.address} for one in answers if one.answer], indent=2))
    else:
        for one in answers:
            if one.answer is not None:
                _show_info(one.answer, one.address, _instances(one, service))
    complain_of(answers)


def _show_info(answer: dict[str, Any], address: str, instances: list[dict[str, Any]]) -> None:
    click.echo(
        f"{address}: zmqservices {answer['version'] or '(not installed)'}, Python {answer['python']}, "
        f"pid {answer['pid']} on {answer['host']}, up for {answer['uptime']:.0f} s"
    )
    for instance in instances:
        click.echo(f"  {instance['service']} {instance['instance']}: {instance['class']}, {instance['max_workers']} workers")
        for entrypoint in instance["entrypoints"]:
            runs_for = [entrypoint["what"]] if entrypoint["what"] else []
            runs_for += [f"group {entrypoint['group']}"] if entrypoint.get("group") else []
            runs_for += [f"next in {entrypoint['next']:.1f} s"] if entrypoint.get("next") is not None else []
            called = f"{entrypoint['method']}{entrypoint.get('signature', '')}"
            click.echo(escaped(f"    {entrypoint['kind']}: {called}{'  [' + ', '.join(runs_for) + ']' if runs_for else ''}"))
        for name, kind in instance["dependencies"].items():
            click.echo(escaped(f"    needs {name}: {kind}"))


@click.command("stats")
@_command
def stats_command(service: str | None, flags: Flags, as_json: bool, timeout: float) -> None:
    """Show calls, errors and durations of each method of a service, or of all services, added up over all instances.

    A second table has the calls that these services make, and a third one the limits of these calls: retry budgets, hedged
    calls, and ejected instances. P50 and P99 are durations: 50 % and 99 % of the calls took at most that long. Below stand
    the calls that have been running for more than a second, and what happened in the cluster lately.

    A process counts from its start if METRICS_ADDRESS or STATISTICS is set, and otherwise from the first `stats`.

    \b
    Examples:
        zmqservices stats
        zmqservices stats orders --json
    """
    answers = ask_nodes(flags, service, "stats", timeout)
    told = summed(answers, service)
    if as_json:
        click.echo(to_json(told, indent=2))
    else:
        _show_stats(told, happened_rows(happened(one.answer for one in answers if one.answer is not None)))
    complain_of(answers)


def summed(answers: Iterable[NodeAnswer], service: str | None) -> list[dict[str, Any]]:
    """Sum up the answers of nodes to `stats`: a mapping for each service, sorted by name.

    `methods` are its methods with the counts of all instances, `calls` the calls that it makes to other services, and `callees`
    the services that it calls, with the limits of these calls. `longest` are the calls that have been running the longest, and
    `timeline` is what its nodes saw happen.
    """
    answers = list(answers)
    services: dict[str, dict[str, Any]] = {}
    calls: dict[tuple[str, str, str], dict[str, Any]] = {}
    methods: dict[str, dict[tuple[str, str, str], dict[str, Any]]] = {}
    for one in answers:
        for instance in _instances(one, service):
            name = instance["service"]
            new = {
                "service": name, "instances": 0, "running": 0, "queued": 0, "since": None, "methods": [], "calls": [],
                "callees": [], "longest": [], "timeline": [],
            }  # fmt: skip
            told = services.setdefault(name, new)
            told["instances"] += 1
            told["running"] += instance["running"]
            told["queued"] += instance["queued"]
            since = (one.answer or {}).get("since")
            told["since"] = since if told["since"] is None else min(told["since"], since)
            of_service = methods.setdefault(name, {})
            for method in instance["methods"]:
                _add_method(of_service, method)
        for call in (one.answer or {}).get("calls", []):
            _add_call(calls, call)
        for name in {instance["service"] for instance in _instances(one, service)}:
            add_callees(services[name]["callees"], callees_of(name, one.answer or {}), str((one.answer or {}).get("node")))
    for name, told in services.items():
        told["methods"] = [_finished(methods[name][key]) for key in sorted(methods[name])]
        running = [one for one in answers if one.answer is not None and _instances(one, name)]
        told["longest"] = longest(instance for one in running for instance in _instances(one, name))
        told["timeline"] = happened(one.answer for one in running if one.answer is not None)
        told["calls"] = [_finished(calls[key]) for key in sorted(calls) if key[0] == name]
    return [services[name] for name in sorted(services)]


def _add_method(of_service: dict[tuple[str, str, str], dict[str, Any]], method: dict[str, Any]) -> None:
    key = (method["kind"], method["method"], method["event"])
    total = of_service.setdefault(
        key,
        {
            "method": method["method"], "kind": method["kind"], "event": method["event"], "count": 0, "errors": {},
            "durations": Histogram(), "queued": Histogram(), "last_error": None,
        },
    )  # fmt: skip
    total["count"] += method["count"]
    for error, count in method["errors"].items():
        total["errors"][error] = total["errors"].get(error, 0) + count
    total["durations"].add(Histogram.from_dict(method["durations"]))
    total["queued"].add(Histogram.from_dict(method["queued"]))
    last = method["last_error"]
    if last is not None and (total["last_error"] is None or last["at"] > total["last_error"]["at"]):
        total["last_error"] = last


def _add_call(calls: dict[tuple[str, str, str], dict[str, Any]], call: dict[str, Any]) -> None:
    key = (call["caller"], call["service"], call["method"])
    new = {"service": call["service"], "method": call["method"], "count": 0, "errors": {}, "durations": Histogram()}
    total = calls.setdefault(key, new)
    total["count"] += call["count"]
    for error, count in call["errors"].items():
        total["errors"][error] = total["errors"].get(error, 0) + count
    total["durations"].add(Histogram.from_dict(call["durations"]))


def _finished(counted: dict[str, Any]) -> dict[str, Any]:
    """The counts of a method, with quantiles in place of histograms."""
    durations = counted.pop("durations")
    quantiles = {f"p{share}": durations.quantile(share / 100) for share in (50, 95, 99)}
    if "queued" not in counted:
        return {**counted, **quantiles}
    queued, last = counted.pop("queued"), counted.pop("last_error")
    return {**counted, **quantiles, "queued_p99": queued.quantile(0.99), "last_error": last}


def _show_stats(told: list[dict[str, Any]], happenings: list[tuple[str, ...]]) -> None:
    rows = [("SERVICE", "METHOD", "KIND", "COUNT", "ERRORS", "P50", "P99", "QUEUED P99", "LAST ERROR")]
    for service in told:
        for method in service["methods"] or [{}]:
            last = method.get("last_error")
            name = f"{method.get('method', '-')}{' ' + method['event'] if method.get('event') else ''}"
            rows.append((
                f"{service['service']} x{service['instances']}", name, method.get("kind", "-"), str(method.get("count", 0)),
                str(sum(method.get("errors", {}).values())), _duration(method.get("p50")), _duration(method.get("p99")),
                _duration(method.get("queued_p99")), "-" if last is None else _error(last),
            ))  # fmt: skip
    calls = [("CALLER", "CALLS", "COUNT", "ERRORS", "P50", "P99")]
    for service in told:
        for call in service["calls"]:
            calls.append((
                service["service"], f"{call['service']}.{call['method']}", str(call["count"]), str(sum(call["errors"].values())),
                _duration(call["p50"]), _duration(call["p99"]),
            ))  # fmt: skip
    if told:
        click.echo(columns(rows))
        if len(calls) > 1:
            click.echo(f"\n{columns(calls)}")
        callees = callee_rows(told)
        if callees:
            click.echo(f"\n{columns(callees)}")
        for line in ejection_lines(told):
            click.echo(escaped(line))
        for table in (running_rows(told), happenings):
            if table:
                click.echo(f"\n{columns(table)}")
        if len(calls) > 1 or callees or happenings:
            click.echo()
        since = min(service["since"] for service in told)
        click.echo(f"counted for {time.time() - since:.0f} s")


def _error(last: dict[str, Any]) -> str:
    from zmqservices.cli.cluster_table import duration  # Imported here: it imports gevent.

    return f"{duration(max(0.0, time.time() - last['at']))} ago: {last['type']}: {last['text'][:LONGEST_ERROR]}"


def _duration(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.2f} ms"
