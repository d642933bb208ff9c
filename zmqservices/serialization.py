"""The serializers that the settings choose: one for sent messages, and those that are accepted.

    serializer, accept = setup({"serializer": "json"})
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zmqservices import constants
from zmqservices.configuration import config as global_config
from zmqservices.exceptions import ConfigurationError
from zmqservices.wire.serializers import get_serializer

__all__ = ["setup"]


def setup(config: Mapping[str, Any] | None = None) -> tuple[str, list[str]]:
    """The name of the serializer for sent values, and the names of accepted ones. Call it once, at construction.

    Without `config`, the configuration of the process is used. Raises ConfigurationError for an unknown serializer.
    """
    settings: Mapping[str, Any] = global_config if config is None else config
    serializer = settings.get(constants.SERIALIZER_CONFIG_KEY) or constants.DEFAULT_SERIALIZER
    accept = settings.get(constants.ACCEPT_CONFIG_KEY)
    if accept is None:
        accept = [serializer]
    elif isinstance(accept, str) or not isinstance(accept, (list, tuple)):
        raise ConfigurationError(f"{constants.ACCEPT_CONFIG_KEY} is {accept!r}; a list of serializers is needed")
    configured = settings.get(constants.SERIALIZERS_CONFIG_KEY)
    get_serializer(serializer, configured)
    for name in accept:
        try:
            get_serializer(name, configured)
        except ConfigurationError as error:
            raise ConfigurationError(str(error).replace("serializer is", f"{constants.ACCEPT_CONFIG_KEY} has", 1)) from None
    return serializer, list(accept)
