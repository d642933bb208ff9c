"""`zmqservices inspect`: describes one service, with what the directory and the nodes know of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from zmqservices.cli import complete
from zmqservices.cli.alive import DEAD
from zmqservices.cli.jsontext import to_json
from zmqservices.cli.listing import as_json, columns, did_you_mean, looked_up, services_of, state_of
from zmqservices.cli.nodes import NodeAnswer, ask, nodes_of, timeout_option
from zmqservices.cli.options import Flags, takes_settings
from zmqservices.constants import LISTED_ENTRYPOINTS_TAG as ENTRYPOINTS
from zmqservices.exceptions import UnknownService
from zmqservices.log_helpers import escaped

if TYPE_CHECKING:
    from discovery import Record, Seen, View


@click.command("inspect")
@click.argument("service", shell_complete=complete.services)
@takes_settings
@as_json
@timeout_option
def inspect_command(service: str, flags: Flags, as_json: bool, timeout: float) -> None:
    """Show one service: its methods, routes, timers and handlers, its dependencies and its instances.

    Shows the signature and docstring of each method, the next tick of each timer, the group of each event handler, and the
    address and lease of each instance.

    \b
    Example:
        zmqservices inspect helloworld
    """
    settings = flags.setup()
    with looked_up(settings, timeout) as directory:
        view = directory.view()
        description = describe(service, view)
        if not description["instances"]:
            mend = did_you_mean(service, services_of(view))
            raise UnknownService(service, f"no instance is known; {mend}{directory.describe()}")
    alive = [seen for seen in view.records.values() if not seen.suspect and state_of(seen) != DEAD]
    answers = ask(settings, nodes_of(alive, service), "info", timeout)
    for one in answers:
        if one.answer is None:
            told = f"no answer from {one.address}, so the next ticks of timers may be missing: {one.problem}"
            click.echo(escaped(told), err=True)
    complete_with(description, answers)
    click.echo(to_json(description, indent=2) if as_json else page(description))


# --- what the directory says --------------------------------------------------------------------------------------------


def describe(service: str, view: View) -> dict[str, Any]:
    """What the directory lists of a service: the methods and entrypoints of its newest instance, and all instances."""
    seen = sorted(
        (one for one in view.records.values() if one.record.service == service),
        key=lambda one: one.record.rank,
    )
    return {
        "service": service,
        "class": "",
        "doc": "",
        "methods": dict(sorted(seen[-1].record.methods.items())) if seen else {},
        "entrypoints": _entrypoints(seen[-1].record) if seen else [],
        "dependencies": {},
        "instances": [_instance(one) for one in seen],
    }


def _entrypoints(record: Record) -> list[dict[str, Any]]:
    """Routes, timers, handlers and WebSocket methods, as `zmqservices run` lists them; else the subscriptions of the record."""
    listed = record.tags.get(ENTRYPOINTS)
    if isinstance(listed, list):
        return [dict(one) for one in listed if isinstance(one, dict)]
    wants = [want for want in record.subscriptions if isinstance(want, dict)]
    return [
        {"kind": "event", "method": "", "what": f"{want.get('pattern')} of {want.get('source')}", "group": want.get("group")}
        for want in wants
    ]


def _instance(seen: Seen) -> dict[str, Any]:
    record = seen.record
    return {
        "instance": record.instance,
        "state": state_of(seen),
        "suspect": seen.suspect,
        "addresses": dict(record.endpoints),
        "host": record.host,
        "pid": record.pid,
        "lease_age": round(seen.age, 3),
        "ttl": record.ttl,
        "zone": record.zone,
        "weight": record.weight,
        "tags": {name: value for name, value in record.tags.items() if name != ENTRYPOINTS},
    }


# --- what its nodes say -------------------------------------------------------------------------------------------------


def complete_with(description: dict[str, Any], answers: Iterable[NodeAnswer]) -> None:
    """Add from the answers to `info`: the class and dependencies of the newest instance, and the next ticks of timers."""
    told = {one["instance"]: one for answer in answers for one in (answer.answer or {}).get("instances", [])}
    found = [told[one["instance"]] for one in description["instances"] if one["instance"] in told]
    if not found:
        return
    newest = found[-1]
    description["class"] = newest.get("class", "")
    description["doc"] = newest.get("doc", "")
    description["dependencies"] = newest.get("dependencies", {})
    methods, others = description["methods"], []
    for entrypoint in newest.get("entrypoints", []):
        if entrypoint["kind"] == "rpc":
            more = {name: value for name, value in entrypoint.items() if name not in ("kind", "what", "method")}
            methods[entrypoint["method"]] = {**methods.get(entrypoint["method"], {}), **more}
        elif entrypoint["kind"] == "timer":
            others.append({**entrypoint, "next": min(_ticks(found, entrypoint), default=None)})
        else:
            others.append(entrypoint)
    description["entrypoints"] = others


def _ticks(instances: Iterable[dict[str, Any]], timer: dict[str, Any]) -> Iterator[float]:
    """Seconds until the next ticks of a timer, on each instance; for `@timer(cluster=True)`, only on the leader."""
    for instance in instances:
        for one in instance.get("entrypoints", []):
            is_same = (one["kind"], one["method"], one["what"]) == (timer["kind"], timer["method"], timer["what"])
            if is_same and one.get("next") is not None and (one.get("is_leader") or not one.get("cluster")):
                yield one["next"]


# --- for people ---------------------------------------------------------------------------------------------------------


def page(description: dict[str, Any]) -> str:
    """The description as a page for people."""
    name, cls = description["service"], description["class"]
    parts = [escaped(f"{name}  ({cls})" if cls else name), *_doc_lines(description, "  ")]
    for method, told in description["methods"].items():
        notes = [name for name, key in (("idempotent", "idempotent"), ("hedged", "hedge")) if told.get(key)]
        match told.get("key"):
            case [str(argument), *_]:
                notes.append(f"key: {argument}")
        note = f"  ({', '.join(notes)})" if notes else ""
        parts.append("\n  " + escaped(f"{method}{told.get('signature') or '(...)'}{note}"))
        parts += _doc_lines(told, "      ")
    if description["entrypoints"]:
        lines: list[tuple[str, ...]] = [("KIND", "METHOD", "RUNS FOR", "GROUP")]
        for one in description["entrypoints"]:
            kind, method, group = (str(one.get(key) or "-") for key in ("kind", "method", "group"))
            lines.append((kind, method, _runs_for(one), group))
        head, *rest = columns(lines).splitlines()
        parts += ["", f"  {head}"]
        for line, one in zip(rest, description["entrypoints"], strict=True):
            parts += [f"  {line}", *_doc_lines(one, "      ")]
    if description["dependencies"]:
        needs = [("NEEDS", "FROM"), *description["dependencies"].items()]
        parts += ["", *(f"  {line}" for line in columns(needs).splitlines())]
    rows = [("INSTANCE", "STATE", "ADDRESS", "HOST", "PID", "LEASE AGE")]
    for one in description["instances"]:
        state = f"{one['state']} (suspect)" if one["suspect"] else one["state"]
        address = " ".join(f"{kind}={endpoint}" for kind, endpoint in sorted(one["addresses"].items())) or "-"
        age = f"{one['lease_age']:.1f} s of {one['ttl']:g} s"
        rows.append((one["instance"], state, address, one["host"] or "-", str(one["pid"] or "-"), age))
    return "\n".join([*parts, "", *(f"  {line}" for line in columns(rows).splitlines())])


def _doc_lines(told: dict[str, Any], indent: str) -> list[str]:
    return [f"{indent}{escaped(line)}".rstrip() for line in str(told.get("doc") or "").strip().splitlines()]


def _runs_for(entrypoint: dict[str, Any]) -> str:
    ticks = entrypoint.get("next")
    what = str(entrypoint.get("what") or "-")
    return what if ticks is None else f"{what}, next in {ticks:.1f} s"
