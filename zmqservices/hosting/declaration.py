"""Reads and checks what a service class and its configuration declare: the name, the number of workers, the serializers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from zmqservices.configuration import whole_number
from zmqservices.constants import (
    ACCEPT_CONFIG_KEY,
    DEFAULT_MAX_WORKERS,
    DEFAULT_SERIALIZER,
    MAX_WORKERS_CONFIG_KEY,
    SERIALIZER_CONFIG_KEY,
)
from zmqservices.exceptions import ConfigurationError
from zmqservices.extensions import ENTRYPOINT_EXTENSIONS_ATTR
from zmqservices.resilience.concurrency import CALM, DEFAULT_MOST
from zmqservices.utils.declarations import no_class_method

#: The most characters of a service's name that a directory accepts.
LONGEST_NAME = 255
#: The prefixes of names of this package's own services: those of publishers, and those for operators.
RESERVED = ("events:", "node:")


def get_service_name(service_cls: type) -> str:
    """The `name` of a service class. Raises ConfigurationError if there is none, or if it is no text."""
    name = getattr(service_cls, "name", None)
    where = f"{service_cls.__module__}.{service_cls.__name__}"
    if name is None:
        raise ConfigurationError(f"Service class must define a `name` attribute ({where})")
    if not isinstance(name, str):
        raise ConfigurationError(f"Service name attribute must be a string ({where}.name is {name!r})")
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable() or name.startswith(RESERVED):
        raise ConfigurationError(
            f"{where}.name is {name!r:.80}; a service's name is 1 to {LONGEST_NAME} printable characters, such as 'orders', "
            f"and does not begin with {' or '.join(map(repr, RESERVED))}"
        )
    return name


def check_class_methods(service_cls: type) -> None:
    """Raise ConfigurationError if an entrypoint decorates a class method.

    The search for entrypoints would silently skip it, because a class method that is looked up on the class is bound.
    """
    for name, method in inspect.getmembers(service_cls, inspect.ismethod):
        for entrypoint in getattr(method, ENTRYPOINT_EXTENSIONS_ATTR, ()):
            raise ConfigurationError(no_class_method(type(entrypoint).__name__, f"{service_cls.__qualname__}.{name}"))


def serializers(config: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The serializer for sent values, and the accepted ones. Raises ConfigurationError for an unknown serializer."""
    if config.get(SERIALIZER_CONFIG_KEY) is None and config.get(ACCEPT_CONFIG_KEY) is None:
        return DEFAULT_SERIALIZER, [DEFAULT_SERIALIZER]
    # Imported here: a service without a network entrypoint need not load the formats of messages.
    from zmqservices import serialization

    return serialization.setup(config)


def max_workers(config: Mapping[str, Any]) -> tuple[int, bool]:
    """The most workers that run at a time, and whether it is `auto`: the limit then follows the durations of calls.

    Raises ConfigurationError for anything but a whole number of at least 0, `auto` and `auto:N`.
    """
    value = config.get(MAX_WORKERS_CONFIG_KEY)
    if value == 0:
        return DEFAULT_MAX_WORKERS, False
    if isinstance(value, str):
        name, colon, most = value.partition(":")
        is_count = most.isascii() and most.isdigit() and int(most) >= CALM
        if name.strip() != "auto" or (colon and not is_count):
            raise ConfigurationError(
                f"{MAX_WORKERS_CONFIG_KEY} is {value!r:.80}; a whole number is needed, or auto, or auto:N with the most that it "
                f"may be, {CALM} at least, such as auto:50"
            )
        return (int(most) if colon else DEFAULT_MOST), True
    return whole_number(config, MAX_WORKERS_CONFIG_KEY, DEFAULT_MAX_WORKERS), False
