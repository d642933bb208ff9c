"""`zmqservices call`: calls one method, with arguments in JSON, and prints the result as JSON."""

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
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), metavar="S",
    help="Wait at most so many seconds for the result. [default: the setting rpc_timeout, 30]",
)  # fmt: skip
@click.option("--json-args", metavar="JSON", help="All arguments as one JSON text: a list, or an object of keyword arguments.")
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

    An ARGUMENT is read as JSON if it is JSON, and otherwise as text; KEY=ARGUMENT is a keyword argument. Write a
    text that looks like JSON, or like KEY=ARGUMENT, in JSON quotes: '"5"', '"a=b"'.

    \b
    Examples:
        zmqservices call helloworld.hello world
        zmqservices call maths.add 2 3 --timeout 0.5
        zmqservices call shop.order item=tea count=3 'tags=["green"]'
        zmqservices call maths.add --json-args '[2, 3]'

    Exit codes: 0 the method returned, 1 it raised an error, 2 wrong command line or configuration, 3 no such
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
    """Service and method of `SERVICE.METHOD`; the name of the service may have dots. Raises CommandError for another form."""
    service, _, method = text.rpartition(".")
    if not service or not method:
        raise CommandError(f"{text!r} is not of the form SERVICE.METHOD, such as helloworld.hello")
    return service, method


def parse_arguments(arguments: Sequence[str], json_args: str | None = None) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments. Raises CommandError if `json_args` is no JSON list or object, or not alone."""
    if json_args is not None and arguments:
        raise CommandError(
            f"--json-args must have all arguments, but there is {arguments[0]!r:.80} as well; put it into the JSON, or leave "
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
    """Arguments from one JSON text: a list has positional arguments, an object keyword arguments."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"--json-args is no JSON: {error}") from error
    if isinstance(document, list):
        return document, {}
    if isinstance(document, dict):
        return [], document
    raise CommandError(f"--json-args is {text:.80}; a JSON list or object is needed, such as '[2, 3]'")


def parse_value(text: str) -> Any:
    """The JSON value of a text, or the text itself."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def _refuse(name: str) -> Any:
    # NaN and Infinity are not JSON, so they are texts.
    raise ValueError(name)
