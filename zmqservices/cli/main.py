"""The group of commands, and the exit codes and texts of their errors."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from zmqservices import exceptions
from zmqservices.cli import own_packages, streams
from zmqservices.cli.fullhelp import FullHelp
from zmqservices.removed import removed_names

#: The names that Nameko applications import from here.
OF_CONFIG_FILES = ["ENV_VAR_MATCHER", "env_var_constructor", "setup_yaml_parser"]

__all__ = ["cli", "exit_code", "main", *OF_CONFIG_FILES]

_removed = removed_names(__name__, {"setup_parser": "the command line is a click group, zmqservices.cli.main.cli"})


def __getattr__(name: str) -> Any:
    if name not in OF_CONFIG_FILES:
        return _removed(name)
    # Imported only when one of these names is used: most commands need no YAML.
    from zmqservices import configfile

    return getattr(configfile, name)


PROGRAM = "zmqservices"

#: The module of each command. It is imported when the command is used.
COMMANDS = {
    "run": "zmqservices.cli.run",
    "call": "zmqservices.cli.call",
    "ls": "zmqservices.cli.ls",
    "inspect": "zmqservices.cli.inspection",
    "health": "zmqservices.cli.health",
    "check": "zmqservices.cli.check",
    "ping": "zmqservices.cli.nodes",
    "info": "zmqservices.cli.nodes",
    "stats": "zmqservices.cli.nodes",
    "top": "zmqservices.cli.top",
    "dashboard": "zmqservices.cli.dashboard",
    "events": "zmqservices.cli.events",
    "relay": "zmqservices.cli.relay",
    "registry": "zmqservices.cli.registry",
    "keys": "zmqservices.cli.keys",
    "policy": "zmqservices.cli.policy",
    "shell": "zmqservices.cli.shell",
    "schema": "zmqservices.cli.schema",
    "show-config": "zmqservices.cli.show_config",
    "backdoor": "zmqservices.cli.backdoor",
    "test": "zmqservices.cli.testing",
    "completion": "zmqservices.cli.completion",
}

#: Exit codes by class of error. The first class counts that the error is an instance of.
EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (exceptions.ConfigurationError, 2),
    (exceptions.CommandError, 2),
    (exceptions.RemoteError, 1),
    (exceptions.BadRequest, 1),
    (exceptions.UnknownService, 3),
    (exceptions.RpcTimeout, 4),
    (exceptions.ZmqServicesError, 5),
)
INTERRUPTED = 130


class LazyGroup(FullHelp):
    """A group that imports the module of a command when it is used, so that the command can monkey-patch first."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name])
        command: click.Command = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise click.UsageError(_unknown(args[0]), ctx)
        return super().resolve_command(ctx, args)


def _unknown(command: str) -> str:
    import difflib

    close = difflib.get_close_matches(command, COMMANDS, n=1)
    mend = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(COMMANDS)}"
    return f"no such command {command!r}; {mend}"


def _version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    from importlib import metadata

    try:
        version = metadata.version("zmqservices")
    except metadata.PackageNotFoundError:
        version = "(not installed)"
    click.echo(f"{PROGRAM} {version}, Python {sys.version.split()[0]}")
    ctx.exit()


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-v", "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version,
    help="Show the version and exit.",
)  # fmt: skip
def cli() -> None:
    """Services that call each other, with no broker to run.

    \b
    Run the services of a module (a file helloworld.py), list them, call one:
        zmqservices run helloworld
        zmqservices ls
        zmqservices call helloworld.hello world

    Exit codes: 0 success, 1 the service answered with an error (or a service died), 2 the command line or the
    configuration is wrong, 3 the service is not known, 4 no answer in time, 5 no answer for another reason.
    """


def exit_code(error: BaseException) -> int | None:
    """The exit code for this error; None for an error that is not ours."""
    if isinstance(error.__cause__, exceptions.RemoteTraceback):
        return 1
    known = next((code for kind, code in EXIT_CODES if isinstance(error, kind)), None)
    return _directory_exit_code(error) if known is None else known


def _directory_exit_code(error: BaseException) -> int | None:
    from discovery import exceptions as directory

    if isinstance(error, directory.DirectoryConfigurationError):
        return 2
    return 5 if isinstance(error, directory.DirectoryError) else None


def sentence(error: BaseException) -> str:
    """The error as one sentence, for stderr."""
    if isinstance(error, exceptions.RemoteError):
        return f"{error.exc_type}: {error.value}" if error.value else f"{error.exc_type}"
    if isinstance(error, exceptions.UnknownService) or exit_code(error) == 2:
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def complain(text: str) -> None:
    """Print an error on stderr, in red on a terminal."""
    from zmqservices.log_helpers import escaped_lines

    # The text may come from another process: escape control characters, which a terminal would obey.
    click.secho(f"Error: {escaped_lines(text)}", err=True, fg="red")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (None: that of the process), and return its exit code."""
    streams.open_missing()
    own_packages.protect()
    try:
        code = cli.main(args=argv, prog_name=PROGRAM, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except Exception as error:
        failed = exit_code(error)
        if failed is None:
            raise
        complain(sentence(error))
        return failed
    return code if isinstance(code, int) else 0
