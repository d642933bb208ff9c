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
    """`KEY=VALUE`, the value read as YAML: `rpc_timeout=5` is a number."""

    name = "KEY=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        key, equals, text = value.partition("=")
        if not equals or not key.strip():
            self.fail(f"{value!r} is not of the form KEY=VALUE, such as rpc_timeout=5", param, ctx)
        parse_definition(value)
        return value


def parse_definition(text: str) -> tuple[str, Any]:
    """Key and value of `KEY=VALUE`. Raises ConfigurationError when the value is no YAML."""
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
        """The settings: flags, then file, environment, defaults. Raises ConfigurationError."""
        flags = dict(parse_definition(text) for text in self.define)
        if self.directory:
            flags[constants.DIRECTORY_CONFIG_KEY] = self.directory
        if self.namespace:
            flags[constants.NAMESPACE_CONFIG_KEY] = self.namespace
        if self.insecure:
            flags[constants.INSECURE_CONFIG_KEY] = True
        return configuration.resolve(flags, configuration.load(self.config_file) if self.config_file else {})

    def setup(self) -> dict[str, Any]:
        """Resolve the settings, make them those of the process, and warn of what looks wrong in them."""
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
        """The same settings, as a command line for a child process. --broker is left out: the parent has warned of it already."""
        pairs = [("-c", self.config_file), ("--directory", self.directory), ("--namespace", self.namespace)]
        pairs += [("-d", text) for text in self.define]
        switches = ["--as-nameko"] * self.as_nameko + ["--insecure"] * self.insecure
        return [part for name, value in pairs if value for part in (name, value)] + switches


OPTIONS = (
    click.option("-c", "--config", "config_file", metavar="FILE", help="Settings from a YAML file."),
    click.option("-d", "--define", type=Definition(), multiple=True, help="One setting; may be repeated."),
    click.option(
        "--directory", metavar="URL",
        help="Where services find each other: local:, tcp://HOST:PORT[,tcp://...], etcd://HOST:PORT/PREFIX, "
        "zookeeper://HOST:PORT/PREFIX, consul://HOST:PORT/PREFIX, dns://NAME:PORT or static:...",
    ),
    click.option("--namespace", metavar="NAME", help="Only services of the same namespace see each other."),
    click.option("--broker", metavar="URI", help="Ignored; accepted because Nameko's commands have it."),
)  # fmt: skip

AS_NAMEKO = click.option(
    "--as-nameko", is_flag=True, help="Let `import nameko` mean zmqservices, for code that was written for Nameko."
)

INSECURE = click.option(
    "--insecure", is_flag=True,
    help="Listen beyond loopback without keys, for a network whose every host you trust; as -d INSECURE=true.",
)  # fmt: skip


def be_nameko() -> None:
    """Do what --as-nameko asks for. To be called before the user's code is imported."""
    from zmqservices import compat

    compat.install(eventlet=True)


def takes_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: give a command the shared options; it gets them as `flags`, a `Flags`."""

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
