"""What an operator may set about a process's place in the cluster, read once from a configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import discovery
from zmqservices import configuration, constants
from zmqservices.transport.sockets import SocketOptions


@dataclass(frozen=True)
class Settings:
    """Times in seconds, sizes in bytes. Equal settings mean the same node of a process."""

    directory: str
    namespace: str
    bind_address: str | None
    advertise_address: str | None
    directory_cache: str | None
    directory_ttl: float
    heartbeat: float
    max_message_size: int
    rpc_timeout: float | None
    rpc_wait_for_service: float
    drain_timeout: float | None

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Settings:
        """Raises ConfigurationError, quoting the value, where one is of the wrong kind."""
        return cls(
            directory=_text(config, constants.DIRECTORY_CONFIG_KEY)
            or os.environ.get(constants.DIRECTORY_ENVIRONMENT_KEY)
            or constants.DEFAULT_DIRECTORY,
            namespace=_text(config, constants.NAMESPACE_CONFIG_KEY)
            or os.environ.get(constants.NAMESPACE_ENVIRONMENT_KEY)
            or constants.DEFAULT_NAMESPACE,
            bind_address=_text(config, constants.BIND_ADDRESS_CONFIG_KEY),
            advertise_address=_text(config, constants.ADVERTISE_ADDRESS_CONFIG_KEY),
            directory_cache=_directory_cache(config),
            directory_ttl=_seconds(config, constants.DIRECTORY_TTL_CONFIG_KEY, constants.DEFAULT_DIRECTORY_TTL),
            heartbeat=_seconds(config, constants.HEARTBEAT_CONFIG_KEY, constants.DEFAULT_HEARTBEAT),
            max_message_size=configuration.whole_number(
                config, constants.MAX_MESSAGE_SIZE_CONFIG_KEY, constants.DEFAULT_MAX_MESSAGE_SIZE
            ),
            rpc_timeout=configuration.seconds(
                config, constants.RPC_TIMEOUT_CONFIG_KEY, constants.DEFAULT_RPC_TIMEOUT, allow_none=True
            ),
            rpc_wait_for_service=_seconds(
                config, constants.RPC_WAIT_FOR_SERVICE_CONFIG_KEY, constants.DEFAULT_RPC_WAIT_FOR_SERVICE
            ),
            drain_timeout=configuration.seconds(
                config, constants.DRAIN_TIMEOUT_CONFIG_KEY, constants.DEFAULT_DRAIN_TIMEOUT, allow_none=True
            ),
        )

    @property
    def sockets(self) -> SocketOptions:
        return SocketOptions(heartbeat=self.heartbeat, max_message_size=self.max_message_size)


def _directory_cache(config: Mapping[str, Any]) -> str | None:
    # Kept unless it is switched off: it is what a start with every registry down relies on.
    found = _text(config, constants.DIRECTORY_CACHE_CONFIG_KEY)
    return discovery.default_cache_dir() if found is None else (None if found == "none" else found)


def _text(config: Mapping[str, Any], key: str) -> str | None:
    return configuration.text(config, key, None)


def _seconds(config: Mapping[str, Any], key: str, default: float) -> float:
    found = configuration.seconds(config, key, default)
    return default if found is None else found
