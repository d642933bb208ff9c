"""The options that all commands share: settings, directory, namespace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click

from zmqservices import configuration, constants
from zmqservices.configuration import config


class Definition(click.ParamType):
    """The type of `KEY=VALUE`. The value is read as YAML, so `rpc_timeout=5` is a number."""

    name = "KEY=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        key, equals, text = value.partition("=")
        if not equals or not key.strip():
            self.fail(f"{value!r} is not of the form KEY=VALUE, such as rpc_timeout=5", param, ctx)
        parse_definition(value)
        return value


def parse_definition(text: str) -> tuple[str, Any]:
    """Key and value of `KEY=VALUE`. Raises ConfigurationError if the value is no YAML."""
    from zmqservices import configfile

    key, _, value = text.partition("=")
    return key.strip(), configfile.parse(value, f"-d {text}")


@dataclass(frozen=True)
class Flags:
    """The settings of the command line."""

    config_file: str | None = None
    define: tuple[str, ...] = ()
    directory: str | None = None
    namespace: str | None = None
    broker: str | None = None
    #: Only commands that import the user's code have this option.
    as_nameko: bool = False
    #: Only commands that listen for others have this option.
    insecure: bool = False

    def resolve(self) -> dict[str, Any]:
        """The settings. The command line takes precedence over the file, the file over the environment.

        Raises ConfigurationError for a file or a value that cannot be read.
        """
        flags = dict(parse_definition(text) for text in self.define)
        if self.directory:
            flags[constants.DIRECTORY_CONFIG_KEY] = self.directory
        if self.namespace:
            flags[constants.NAMESPACE_CONFIG_KEY] = self.namespace
        if self.insecure:
            flags[constants.INSECURE_CONFIG_KEY] = True
        return configuration.resolve(flags, configuration.load(self.config_file) if self.config_file else {})

    def setup(self) -> dict[str, Any]:
        """Resolve the settings, make them those of the process, and warn of settings that look wrong."""
        settings = self.resolve()
        config.setup(settings)
        self.warn(settings)
        return settings

    def warn(self, settings: dict[str, Any]) -> None:
        """Warn of settings that look mistyped, and of settings that have no effect, such as --broker."""
        if self.broker:
            click.echo("--broker is ignored: services find each other without a broker", err=True)
        configuration.warn_unknown_keys(settings)

    def argv(self) -> list[str]:
        """The same settings as a command line for a child process; without --broker, of which the parent has warned already."""
        pairs = [("-c", self.config_file), ("--directory", self.directory), ("--namespace", self.namespace)]
        pairs += [("-d", text) for text in self.define]
        switches = ["--as-nameko"] * self.as_nameko + ["--insecure"] * self.insecure
        return [part for name, value in pairs if value for part in (name, value)] + switches


OPTIONS = (
    click.option("-c", "--config", "config_file", metavar="FILE", help="Read settings from a YAML file."),
    click.option(
        "-d", "--define", type=Definition(), multiple=True, help="Set one setting, such as rpc_timeout=5; may be repeated."
    ),
    click.option(
        "--directory", metavar="URL",
        help="Where services find each other: local:, tcp://HOST:PORT[,tcp://...], etcd://HOST:PORT/PREFIX, "
        "zookeeper://HOST:PORT/PREFIX, consul://HOST:PORT/PREFIX, dns://NAME:PORT or static:NAME=ADDRESS. "
        "[default: local:, this machine]",
    ),
    click.option("--namespace", metavar="NAME", help="Only services of the same namespace see each other. [default: default]"),
    click.option("--broker", metavar="URI", help="Ignored; accepted because Nameko's commands have it."),
)  # fmt: skip

AS_NAMEKO = click.option(
    "--as-nameko", is_flag=True, help="Let `import nameko` mean zmqservices, for code that was written for Nameko."
)

INSECURE = click.option(
    "--insecure", is_flag=True,
    help="Listen beyond loopback without keys: only for a network where you trust every host. The same as -d INSECURE=true.",
)  # fmt: skip


def be_nameko() -> None:
    """Let `import nameko` mean zmqservices. Call this before the user's code is imported."""
    from zmqservices import compat

    compat.install(eventlet=True)


def takes_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: give a command the shared options, and pass them to it as `flags`, a `Flags`."""

    @wraps(command)
    def with_flags(
        config_file: str | None,
        define: tuple[str, ...],
        directory: str | None,
        namespace: str | None,
        broker: str | None,
        **rest: object,
    ) -> Any:
        return command(flags=Flags(config_file, define, directory, namespace, broker), **rest)

    for option in reversed(OPTIONS):
        with_flags = option(with_flags)
    return with_flags
