"""`zmqservices call`: one call from the command line, JSON in and JSON out."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import click

from zmqservices.cli import complete
from zmqservices.cli.jsontext import to_json
from zmqservices.cli.listing import with_near_services
from zmqservices.cli.options import Flags, takes_settings
from zmqservices.exceptions import CommandError, RemoteTraceback, UnknownService

KEYWORD = re.compile(r"([^\W\d]\w*)=(.*)", re.DOTALL)


@click.command("call", context_settings={"ignore_unknown_options": True})
@click.argument("method", metavar="SERVICE.METHOD", shell_complete=complete.methods)
@click.argument("arguments", nargs=-1, metavar="[ARGUMENT | KEY=ARGUMENT]...")
@takes_settings
@click.option("--timeout", type=click.FloatRange(0, min_open=True), metavar="S", help="Seconds to wait at most.")
@click.option("--json-args", metavar="JSON", help="All arguments as one JSON list, or as one JSON object of keywords.")
@click.option("--traceback", is_flag=True, help="Show the service's traceback when the method fails.")
def call_command(
    method: str,
    arguments: tuple[str, ...],
    flags: Flags,
    timeout: float | None,
    json_args: str | None,
    traceback: bool,
) -> None:
    """Call a method of a running service, and print what it returns as JSON.

    An argument is JSON, or else the text that it is; KEY=ARGUMENT is a keyword argument. A text that looks
    like either is put in JSON quotes: '"5"', '"a=b"'.

    \b
    Examples:
        zmqservices call helloworld.hello world
        zmqservices call maths.add 2 3 --timeout 0.5
        zmqservices call shop.order item=tea count=3 'tags=["green"]'
        zmqservices call maths.add --json-args '[2, 3]'

    Exit codes: 0 answered, 1 answered with an error, 2 wrong command line or configuration, 3 no such
    service, 4 no answer in time, 5 no answer for another reason.
    """
    service_name, method_name = parse_method(method)
    args, kwargs = parse_arguments(arguments, json_args)
    settings = flags.setup()
    from zmqservices.standalone.rpc import ClusterRpcProxy

    with ClusterRpcProxy(settings, timeout=timeout) as cluster:
        try:
            result = getattr(cluster[service_name], method_name)(*args, **kwargs)
        except UnknownService as error:
            if isinstance(error.__cause__, RemoteTraceback):
                raise  # The error is about another service, which this service called.
            raise with_near_services(error, settings) from error
        except Exception as error:
            if traceback and isinstance(error.__cause__, RemoteTraceback):
                click.echo(error.__cause__.text, err=True, nl=False)
            raise
    click.echo(to_json(result))


def parse_method(text: str) -> tuple[str, str]:
    """Service and method of `SERVICE.METHOD`; the service's name may have dots. Raises CommandError."""
    service, _, method = text.rpartition(".")
    if not service or not method:
        raise CommandError(f"{text!r} is no SERVICE.METHOD, such as helloworld.hello")
    return service, method


def parse_arguments(arguments: Sequence[str], json_args: str | None = None) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments. Raises CommandError when `json_args` is no list and no object."""
    if json_args is not None and arguments:
        raise CommandError(
            f"--json-args are all arguments, and {arguments[0]!r:.80} is given besides; put it into the JSON, or leave "
            "--json-args out"
        )
    args, kwargs = parse_json_arguments(json_args) if json_args is not None else ([], {})
    for argument in arguments:
        keyword = KEYWORD.fullmatch(argument)
        if keyword:
            kwargs[keyword[1]] = parse_value(keyword[2])
        else:
            args.append(parse_value(argument))
    return args, kwargs


def parse_json_arguments(text: str) -> tuple[list[Any], dict[str, Any]]:
    """Arguments from one JSON document: a list is positional, an object is keywords."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"--json-args is no JSON: {error}") from error
    if isinstance(document, list):
        return document, {}
    if isinstance(document, dict):
        return [], document
    raise CommandError(f"--json-args is {text}; a JSON list or object is needed, such as '[2, 3]'")


def parse_value(text: str) -> Any:
    """The JSON value of a text, or the text itself."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def _refuse(name: str) -> Any:
    # NaN and Infinity are not JSON: as bare words they are texts.
    raise ValueError(name)
