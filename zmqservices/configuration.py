"""The settings of a process: where they come from, and how they are read.

    from zmqservices import config

    config.setup(resolve(flags, load("config.yaml"), os.environ))
    timeout = seconds(config, "rpc_timeout", 30.0)

Rule 1: flags override the file, the file overrides the environment, the environment overrides defaults.
Rule 2: reading a setting of the wrong type raises an error that quotes the value and says what is needed.
Rule 3: an unknown key belongs to the application, unless it looks like a mistyped key of this package.
"""

from __future__ import annotations

import copy
import difflib
import logging
import math
import os
from collections import UserDict
from collections.abc import Mapping
from contextlib import ContextDecorator
from typing import Any, overload

from zmqservices import constants
from zmqservices.exceptions import ConfigurationError

__all__ = [
    "IGNORED_KEYS",
    "KNOWN_KEYS",
    "Config",
    "boolean",
    "config",
    "directory_url",
    "insecure",
    "load",
    "namespace",
    "resolve",
    "seconds",
    "text",
    "warn_unknown_keys",
    "whole_number",
]

_log = logging.getLogger(__name__)

#: Settings of a message broker in configurations of Nameko applications. They have no effect here.
IGNORED_KEYS = frozenset(
    {
        constants.AMQP_URI_CONFIG_KEY,
        constants.AMQP_SSL_CONFIG_KEY,
        constants.RPC_EXCHANGE_CONFIG_KEY,
        constants.TRANSPORT_OPTIONS_CONFIG_KEY,
        constants.LOGIN_METHOD_CONFIG_KEY,
        "AUTO_DELETE_EVENT_EXCHANGES",
        "DECLARE_EVENT_EXCHANGES",
    }
)
#: Settings that have an effect here.
KNOWN_KEYS = (
    frozenset(value for name, value in vars(constants).items() if name.endswith("_CONFIG_KEY")) - IGNORED_KEYS
)

#: The settings that can come from the environment, with the variable of each.
ENVIRONMENT = {
    constants.DIRECTORY_CONFIG_KEY: constants.DIRECTORY_ENVIRONMENT_KEY,
    constants.NAMESPACE_CONFIG_KEY: constants.NAMESPACE_ENVIRONMENT_KEY,
    constants.SECURITY_CONFIG_KEY: constants.SECURITY_ENVIRONMENT_KEY,
    constants.INSECURE_CONFIG_KEY: constants.INSECURE_ENVIRONMENT_KEY,
}
#: The values of environment variables that mean yes or no.
YES_OR_NO = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
#: The defaults of these settings. Other defaults are in `constants` and are applied where a setting is read.
DEFAULTS = {
    constants.DIRECTORY_CONFIG_KEY: constants.DEFAULT_DIRECTORY,
    constants.NAMESPACE_CONFIG_KEY: constants.DEFAULT_NAMESPACE,
}
#: How similar a mistyped key must be to one of this package. With 0.8, two letters of ten may differ.
TYPO = 0.8


class Config(UserDict):
    """The settings of this process: a mapping that is filled once at the start, and that tests patch."""

    def setup(self, settings: Mapping[str, Any]) -> None:
        """Replace all settings by a deep copy of `settings`."""
        self.data = copy.deepcopy(dict(settings))

    def patch(self, settings: Mapping[str, Any], clear: bool = False) -> Patch:
        """Override settings for a while or, with `clear`, replace all of them.

        Use it in a `with` block, or as a decorator for the calls of a function.
        """
        return Patch(self, settings, clear)


class Patch(ContextDecorator):
    """Overrides settings until the block or the call ends."""

    def __init__(self, config: Config, settings: Mapping[str, Any], clear: bool) -> None:
        self._config, self._settings, self._clear = config, settings, clear
        self._before: list[dict[str, Any]] = []

    def __enter__(self) -> Config:
        self._before.append(self._config.data)
        base = {} if self._clear else self._config.data
        self._config.data = {**base, **self._settings}
        return self._config

    def __exit__(self, *exc_info: object) -> None:
        self._config.data = self._before.pop()


config = Config()


# --- where settings come from ------------------------------------------------------------------------------


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The settings in a YAML file with `${VAR}` and `${VAR:default}`: see `zmqservices.configfile`."""
    from zmqservices import configfile  # imported here, so that only programs with a file load YAML

    return configfile.load(path)


def resolve(
    flags: Mapping[str, Any] | None = None,
    file: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """All settings, each from the first source that has it: flags (None: not given), file, environment, defaults."""
    environ = os.environ if environ is None else environ
    settings = {**DEFAULTS, **_from_environment(environ), **(file or {})}
    settings.update((key, value) for key, value in (flags or {}).items() if value is not None)
    return settings


def insecure(config: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> bool:
    """Whether sockets may listen beyond loopback without encryption. `config` may be incomplete, as in `directory_url`."""
    if config.get(constants.INSECURE_CONFIG_KEY) is None:
        config = _from_environment(os.environ if environ is None else environ)
    return boolean(config, constants.INSECURE_CONFIG_KEY, constants.DEFAULT_INSECURE)


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {key: environ[variable] for key, variable in ENVIRONMENT.items() if environ.get(variable)}
    insecure = constants.INSECURE_CONFIG_KEY
    if insecure in found:
        found[insecure] = _yes_or_no(ENVIRONMENT[insecure], found[insecure])
    return found


def _yes_or_no(variable: str, said: str) -> bool:
    if said.lower() not in YES_OR_NO:
        raise ConfigurationError(f"{variable} is {said[:100]!r}; true or false is needed")
    return YES_OR_NO[said.lower()]


def directory_url(config: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> str:
    """The URL of the directory. Works with settings that have not gone through `resolve`, too."""
    return _own_or_environment(config, constants.DIRECTORY_CONFIG_KEY, environ)


def namespace(config: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> str:
    """The namespace whose services see each other. `config` may be incomplete, as in `directory_url`."""
    return _own_or_environment(config, constants.NAMESPACE_CONFIG_KEY, environ)


def _own_or_environment(config: Mapping[str, Any], key: str, environ: Mapping[str, str] | None) -> str:
    outside = _from_environment(os.environ if environ is None else environ)
    return text(config, key, outside.get(key, DEFAULTS[key]))


def completed(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """`settings`, completed by those of the process if they have a broker and no directory, as in a Nameko application.

    So `ClusterRpcProxy({"AMQP_URI": ...})` calls the cluster of its process.
    """
    is_nameko = constants.AMQP_URI_CONFIG_KEY in settings and settings is not config
    if is_nameko and not {constants.DIRECTORY_CONFIG_KEY, constants.NAMESPACE_CONFIG_KEY} & set(settings):
        return {**config, **settings}
    return settings


# --- keys that were mistyped -------------------------------------------------------------------------------


def unknown_keys(config: Mapping[str, Any]) -> dict[str, str]:
    """The keys that look mistyped or have an old name, each with the key that was probably meant."""
    by_folded = {key.casefold(): key for key in KNOWN_KEYS | IGNORED_KEYS}
    meant = {}
    for key in config:
        if key in by_folded.values() or not isinstance(key, str):
            continue
        close = difflib.get_close_matches(key.casefold().replace("-", "_"), by_folded, n=1, cutoff=TYPO)
        if close:
            meant[key] = by_folded[close[0]]
    return meant


def warn_unknown_keys(config: Mapping[str, Any]) -> None:
    """Log a warning for each key that looks mistyped, and one for the keys that have no effect here."""
    for key, probably in unknown_keys(config).items():
        _log.warning("the setting %r is not known; did you mean %r?", key, probably)
    ignored = sorted(IGNORED_KEYS & set(config))
    if ignored:
        _log.warning("ignored %s: services find each other without a broker", ", ".join(ignored))


# --- typed reads -------------------------------------------------------------------------------------------


@overload
def seconds(config: Mapping[str, Any], key: str, default: float) -> float: ...
@overload
def seconds(
    config: Mapping[str, Any], key: str, default: float | None, allow_none: bool = False
) -> float | None: ...
def seconds(
    config: Mapping[str, Any], key: str, default: float | None, allow_none: bool = False
) -> float | None:
    """Read a span of time in seconds. With `allow_none`, null means "no limit"; otherwise it means the default.

    Raises ConfigurationError for anything but a finite number that is not negative.
    """
    value = config.get(key, default)
    if value is None:
        return None if allow_none else default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        example = default or 30
        raise ConfigurationError(f"{key} is {value!r}; a number of seconds is needed, such as {example}")
    return float(value)


def number(config: Mapping[str, Any], key: str, default: float, minimum: float = 0.0) -> float:
    """Read a finite number of at least `minimum`. Null means the default. Raises ConfigurationError for anything else."""
    value = config.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigurationError(f"{key} is {value!r}; a number is needed, such as {default}")
    if value < minimum:
        raise ConfigurationError(f"{key} is {value!r}; it must be {minimum:g} or more")
    return float(value)


def whole_number(config: Mapping[str, Any], key: str, default: int, minimum: int = 1) -> int:
    """Read a whole number of at least `minimum`. Null means the default. Raises ConfigurationError for anything else."""
    value = config.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigurationError(f"{key} is {value!r}; a whole number is needed")
    if value < minimum:
        raise ConfigurationError(f"{key} is {value!r}; it must be {minimum} or more")
    return value


@overload
def text(config: Mapping[str, Any], key: str, default: str) -> str: ...
@overload
def text(config: Mapping[str, Any], key: str, default: None) -> str | None: ...
def text(config: Mapping[str, Any], key: str, default: str | None) -> str | None:
    """Read a text that is not empty. Null means the default. Raises ConfigurationError for anything else."""
    value = config.get(key)
    if value is None:
        return default
    if not isinstance(value, str) or not value:
        example = f", such as {default!r}" if default else ""
        raise ConfigurationError(f"{key} is {value!r}; a text is needed{example}")
    return value


def boolean(config: Mapping[str, Any], key: str, default: bool) -> bool:
    """Read true or false. Null means the default. Raises ConfigurationError for anything else."""
    value = config.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ConfigurationError(f"{key} is {value!r}; true or false is needed")
    return value
