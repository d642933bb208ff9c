"""The settings of a process's place in the cluster, read once from a configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import discovery
from discovery.security.keys import Keys
from zmqservices import configuration, constants
from zmqservices.cluster.limit_settings import LimitSettings
from zmqservices.cluster.resilience_settings import ResilienceSettings
from zmqservices.exceptions import ConfigurationError
from zmqservices.security import policy
from zmqservices.security.policy import Policy
from zmqservices.transport.sockets import SocketOptions


@dataclass(frozen=True)
class EventSettings:
    """The settings for the events that a process publishes. Times are in seconds, sizes in bytes."""

    folder: str
    sync: str
    max_bytes: int
    max_age: float | None
    retention: float
    when_full: str
    full_timeout: float
    bind_address: str | None
    ack_wait: float
    backoff: float
    backoff_max: float
    max_deliveries: int
    expires_after: float | None
    wait_for_peers: float
    linger: float
    #: The most subscriptions of one node, and the most groups of one source.
    max_subscriptions: int = constants.DEFAULT_EVENTS_MAX_SUBSCRIPTIONS
    max_groups: int = constants.DEFAULT_EVENTS_MAX_GROUPS

    @classmethod
    def read(cls, config: Mapping[str, Any], namespace: str) -> EventSettings:
        """Read the settings. Raises ConfigurationError, which quotes the value, for a value of the wrong kind."""
        c = constants
        return cls(
            folder=os.path.join(_text(config, c.JOURNAL_FOLDER_CONFIG_KEY) or _state_folder(), folder_of(namespace)),
            sync=_one_of(config, c.JOURNAL_SYNC_CONFIG_KEY, c.DEFAULT_JOURNAL_SYNC, ("normal", "full")),
            max_bytes=configuration.whole_number(config, c.JOURNAL_MAX_BYTES_CONFIG_KEY, c.DEFAULT_JOURNAL_MAX_BYTES),
            max_age=configuration.seconds(config, c.JOURNAL_MAX_AGE_CONFIG_KEY, None, allow_none=True),
            retention=_seconds(config, c.JOURNAL_RETENTION_CONFIG_KEY, c.DEFAULT_JOURNAL_RETENTION),
            when_full=_one_of(
                config, c.JOURNAL_WHEN_FULL_CONFIG_KEY, c.DEFAULT_JOURNAL_WHEN_FULL, ("block", "drop-oldest")
            ),
            full_timeout=_seconds(config, c.JOURNAL_FULL_TIMEOUT_CONFIG_KEY, c.DEFAULT_JOURNAL_FULL_TIMEOUT),
            bind_address=_text(config, c.EVENTS_BIND_ADDRESS_CONFIG_KEY),
            ack_wait=_seconds(config, c.EVENTS_ACK_WAIT_CONFIG_KEY, c.DEFAULT_EVENTS_ACK_WAIT),
            backoff=_seconds(config, c.EVENTS_BACKOFF_CONFIG_KEY, c.DEFAULT_EVENTS_BACKOFF),
            backoff_max=_seconds(config, c.EVENTS_BACKOFF_MAX_CONFIG_KEY, c.DEFAULT_EVENTS_BACKOFF_MAX),
            max_deliveries=configuration.whole_number(
                config, c.EVENTS_MAX_DELIVERIES_CONFIG_KEY, c.DEFAULT_EVENTS_MAX_DELIVERIES, minimum=0
            ),
            expires_after=configuration.seconds(
                config, c.EVENTS_GROUP_EXPIRES_AFTER_CONFIG_KEY, c.DEFAULT_EVENTS_GROUP_EXPIRES_AFTER, allow_none=True
            ),
            wait_for_peers=_seconds(config, c.EVENTS_WAIT_FOR_PEERS_CONFIG_KEY, c.DEFAULT_EVENTS_WAIT_FOR_PEERS),
            linger=_seconds(config, c.EVENTS_LINGER_CONFIG_KEY, c.DEFAULT_EVENTS_LINGER),
            max_subscriptions=configuration.whole_number(
                config, c.EVENTS_MAX_SUBSCRIPTIONS_CONFIG_KEY, c.DEFAULT_EVENTS_MAX_SUBSCRIPTIONS
            ),
            max_groups=configuration.whole_number(config, c.EVENTS_MAX_GROUPS_CONFIG_KEY, c.DEFAULT_EVENTS_MAX_GROUPS),
        )


@dataclass(frozen=True)
class Settings:
    """The settings of a node. Times are in seconds, sizes in bytes. Containers with equal settings share one node."""

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
    resilience: ResilienceSettings
    events: EventSettings
    limits: LimitSettings = LimitSettings()
    #: This node's keys; None if connections are not encrypted.
    keys: Keys | None = field(default=None, repr=False)
    #: The rules that add to certificates.
    policy: Policy = Policy()
    #: The full path of the file with these rules; "" for none.
    policy_file: str = ""
    #: Whether the node may listen beyond loopback without keys.
    insecure: bool = False

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Settings:
        """Read the settings. Raises ConfigurationError, which quotes the value, for a value of the wrong kind."""
        config = configuration.completed(config)
        namespace = (
            _text(config, constants.NAMESPACE_CONFIG_KEY)
            or os.environ.get(constants.NAMESPACE_ENVIRONMENT_KEY)
            or constants.DEFAULT_NAMESPACE
        )
        keys = keys_of(config)
        return cls(
            directory=_text(config, constants.DIRECTORY_CONFIG_KEY)
            or os.environ.get(constants.DIRECTORY_ENVIRONMENT_KEY)
            or constants.DEFAULT_DIRECTORY,
            namespace=namespace,
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
            resilience=ResilienceSettings.read(config),
            events=EventSettings.read(config, namespace),
            limits=LimitSettings.read(config),
            keys=keys,
            policy=_policy(config, keys),
            policy_file=_policy_file(config),
            insecure=configuration.insecure(config),
        )

    @property
    def look_interval(self) -> float:
        """Seconds between two looks at what may change on this host: its addresses and keys. Leases are renewed as often."""
        return self.directory_ttl / 3

    @property
    def sockets(self) -> SocketOptions:
        return SocketOptions(
            self.heartbeat, self.max_message_size, self.keys, self.limits.handshakes_per_second, self.limits.hello_timeout
        )


def keys_of(config: Mapping[str, Any]) -> Keys | None:
    """The keys in the folder that SECURITY names; None without one. Raises ConfigurationError."""
    folder = _text(config, constants.SECURITY_CONFIG_KEY) or os.environ.get(constants.SECURITY_ENVIRONMENT_KEY)
    if not folder:
        return None
    try:
        return Keys.read(os.path.expanduser(folder))
    except discovery.DirectoryError as exc:
        raise ConfigurationError(f"{constants.SECURITY_CONFIG_KEY} is {folder!r}: {exc}") from exc


def _policy(config: Mapping[str, Any], keys: Keys | None) -> Policy:
    file = _text(config, constants.POLICY_CONFIG_KEY)
    if file is None:
        return Policy()
    if keys is None:
        raise ConfigurationError(
            f"{constants.POLICY_CONFIG_KEY} is {file!r}, and no peer is known by name without {constants.SECURITY_CONFIG_KEY}; "
            "set both, or none"
        )
    return policy.load(file)


def _policy_file(config: Mapping[str, Any]) -> str:
    file = _text(config, constants.POLICY_CONFIG_KEY)
    return "" if file is None else os.path.abspath(file)


def _directory_cache(config: Mapping[str, Any]) -> str | None:
    # On by default, because a start while every registry is down needs the cache.
    found = _text(config, constants.DIRECTORY_CACHE_CONFIG_KEY)
    return discovery.default_cache_dir() if found is None else (None if found == "none" else found)


def _text(config: Mapping[str, Any], key: str) -> str | None:
    return configuration.text(config, key, None)


def _seconds(config: Mapping[str, Any], key: str, default: float) -> float:
    found = configuration.seconds(config, key, default)
    return default if found is None else found


def _one_of(config: Mapping[str, Any], key: str, default: str, choices: tuple[str, ...]) -> str:
    found = configuration.text(config, key, default)
    if found not in choices:
        raise ConfigurationError(f"{key} is {found!r}; {' or '.join(map(repr, choices))} is needed")
    return found


def folder_of(namespace: str) -> str:
    """The name of a namespace's folder. It is a single path component, whatever characters the namespace has."""
    quoted = quote(namespace, safe="")
    # Quoted separately, because "." and ".." would be existing folders.
    return quoted if quoted.strip(".") else quoted.replace(".", "%2E")


def _state_folder() -> str:
    """The default folder of journals, in the user's state folder."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(base, "zmqservices", "journals")
