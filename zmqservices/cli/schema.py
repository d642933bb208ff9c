"""`zmqservices schema`: prints the contract of a service as OpenAPI and AsyncAPI."""

from __future__ import annotations

import json
from typing import Any

import click

from zmqservices.cli.services import import_service
from zmqservices.exceptions import CommandError


@click.command("schema")
@click.argument("service", metavar="MODULE[:CLASS]")
@click.option("--openapi", "wanted", flag_value="openapi", help="Only OpenAPI 3.1, for @http methods.")
@click.option("--asyncapi", "wanted", flag_value="asyncapi", help="Only AsyncAPI 3.0, for @rpc methods and events.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of YAML; a list if there are several documents.")
def schema_command(service: str, wanted: str | None, as_json: bool) -> None:
    """Print the contract of a service: OpenAPI for @http methods, AsyncAPI for calls and events.

    \b
    Examples:
        zmqservices schema shop.gateway --openapi > openapi.yaml
        zmqservices schema shop.orders:Orders --asyncapi --json

    Types come from annotations, and texts from docstrings. The command imports the module and starts nothing. Without
    --openapi or --asyncapi it prints all documents of the module's classes, one after the other.
    """
    documents = _documents(service, wanted)
    if not documents:
        missing = {"openapi": "@http methods", "asyncapi": "@rpc methods and no events"}
        text = missing.get(wanted or "", "@http and @rpc methods and no events")
        raise CommandError(f"{service} has no {text}, so there is no such document")
    if as_json:
        click.echo(json.dumps(documents[0] if len(documents) == 1 else documents, indent=2, ensure_ascii=False))
        return
    import yaml

    click.echo(yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, width=120), nl=False)


def _documents(service: str, wanted: str | None) -> list[dict[str, Any]]:
    try:
        from zmqservices import schema
    except ImportError as error:
        raise CommandError(str(error)) from error
    makers = [maker for name, maker in (("openapi", schema.openapi), ("asyncapi", schema.asyncapi)) if wanted in (None, name)]
    try:
        classes = import_service(service)
    except CommandError as error:
        if not service.isidentifier():
            raise
        raise CommandError(f"{error}; `zmqservices inspect {service}` describes a service that runs") from error
    made = [maker(cls) for cls in classes for maker in makers]
    return [document for document in made if document is not None]
