"""`zmqservices schema`: prints the contract of a service as OpenAPI and AsyncAPI."""

from __future__ import annotations

import json
from typing import Any

import click

from zmqservices.cli import complete
from zmqservices.cli.nodes import ask_nodes, complain_of, timeout_option
from zmqservices.cli.options import Flags, takes_settings
from zmqservices.cli.patching import import_from_here
from zmqservices.cli.services import broken, import_service
from zmqservices.exceptions import CommandError, RemoteUnavailable, UnknownService

#: The kinds of documents, in the order in which they are printed.
KINDS = ("openapi", "asyncapi")


@click.command("schema")
@click.argument("service", metavar="MODULE[:CLASS]|SERVICE", shell_complete=complete.services)
@takes_settings
@click.option("--openapi", "wanted", flag_value="openapi", help="Only OpenAPI 3.1, for @http methods.")
@click.option("--asyncapi", "wanted", flag_value="asyncapi", help="Only AsyncAPI 3.0, for @rpc methods and events.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of YAML; a list if there are several documents.")
@timeout_option
def schema_command(service: str, flags: Flags, wanted: str | None, as_json: bool, timeout: float) -> None:
    """Print the contract of a service: OpenAPI for @http methods, AsyncAPI for calls and events.

    \b
    Examples:
        zmqservices schema shop.gateway --openapi > openapi.yaml
        zmqservices schema shop.orders:Orders --asyncapi --json
        zmqservices schema orders

    Types come from annotations, and texts from docstrings. The command imports the module and starts nothing. If there is no
    such module, or no service in it, it asks the running service of this name. Without --openapi or --asyncapi it prints all
    documents, one after the other.
    """
    kinds = KINDS if wanted is None else (wanted,)
    import_from_here()
    try:
        classes = import_service(service)
    except CommandError as error:
        if not _may_run(service):
            raise
        documents = _of_running(service, flags, kinds, timeout, error)
    except Exception as error:
        raise broken(service, error) from error
    else:
        documents = _of_classes(classes, kinds)
    if not documents:
        missing = {"openapi": "@http methods", "asyncapi": "@rpc methods and no events"}
        text = missing.get(wanted or "", "@http and @rpc methods and no events")
        raise CommandError(f"{service} has no {text}, so there is no such document")
    if as_json:
        click.echo(json.dumps(documents[0] if len(documents) == 1 else documents, indent=2, ensure_ascii=False))
        return
    import yaml

    click.echo(yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, width=120), nl=False)


def contracts_of(cls: type) -> dict[str, dict[str, Any] | None]:
    """The documents of a service class by kind; None for one that it has not. Raises ImportError if the extra is missing."""
    from zmqservices import schema

    return {"openapi": schema.openapi(cls), "asyncapi": schema.asyncapi(cls)}


def _of_classes(classes: list[type], kinds: tuple[str, ...]) -> list[dict[str, Any]]:
    try:
        made = [contracts_of(cls) for cls in classes]
    except ImportError as error:
        raise CommandError(str(error)) from error
    return [document for one in made for kind in kinds if (document := one[kind]) is not None]


def _may_run(name: str) -> bool:
    """Whether it may be the name of a running service, and not that of a class or a file."""
    return bool(name) and ":" not in name and not name.endswith(".py")


def _of_running(
    service: str, flags: Flags, kinds: tuple[str, ...], timeout: float, no_module: CommandError
) -> list[dict[str, Any]]:
    """The different documents of the instances of a running service. Usually all have the same."""
    try:
        answers = ask_nodes(flags, service, "schema", timeout)
    except UnknownService as error:
        raise CommandError(f"{no_module}; nor does a service of this name run: {error}") from error
    except RemoteUnavailable as error:
        raise CommandError(f"{no_module}; nor can a running service be asked: {error}") from error
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    has_problem = False
    for one in answers:
        answer = one.answer or {}
        if answer.get("problem"):
            has_problem = True
            click.echo(f"no contract from {one.address}: {answer['problem']}", err=True)
        for instance in answer.get("instances", []):
            if instance["service"] == service:
                for kind, documents in found.items():
                    if (document := instance.get(kind)) and document not in documents:
                        documents.append(document)
    complain_of(answers)
    if has_problem and not any(found.values()):
        raise CommandError(f"no instance of {service} can make its contract")
    if any(len(documents) > 1 for documents in found.values()):
        click.echo(f"the instances of {service} have different contracts; here are all of them", err=True)
    return [document for documents in found.values() for document in documents]
