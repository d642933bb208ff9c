"""A memcached client for services. Needs pymemcache; the extra is `memcached`.

    class Weather:
        name = "weather"
        cache = Memcached(default_noreply=False)

        @rpc
        def in_city(self, city):
            found = self.cache.get(city)
            if found is None:
                found = look_out_of_the_window(city)
                self.cache.set(city, found, expire=60)
            return found

    # config.yaml
    # MEMCACHED_URIS: ["127.0.0.1:11211"]
"""

from __future__ import annotations

from typing import Any

from zmqservices.exceptions import ConfigurationError
from zmqservices.extensions import DependencyProvider
from zmqservices.wire import codec
from zmqservices.worker_context import WorkerContext

try:
    from pymemcache.client.hash import HashClient
except ImportError as error:
    raise ImportError("pymemcache is not installed; `pip install zmqservices[memcached]` brings it") from error

__all__ = ["MEMCACHED_URIS_KEY", "Memcached", "TypedValues"]

#: The setting with the list of servers, each as HOST:PORT. Keys are spread over all servers.
MEMCACHED_URIS_KEY = "MEMCACHED_URIS"
#: The flags of a stored value. Bytes and texts are stored unchanged, for other programs; other values are packed as in calls.
_BYTES, _TEXT, _TYPED = 0, 16, 32


class TypedValues:
    """Keeps the types of cached values, which may be anything that a call can carry. No pickle: a cache is not trusted."""

    def serialize(self, key: object, value: object) -> tuple[bytes, int]:
        """Called for each value that is stored. Raises UnserializableValueError for a value that a call could not carry."""
        if isinstance(value, bytes):
            return value, _BYTES
        if isinstance(value, str):
            return value.encode(), _TEXT
        return codec.pack(value), _TYPED

    def deserialize(self, key: object, value: Any, flags: int) -> Any:
        """Called for each value that is found. Returns the bytes of a value that has flags of other programs."""
        if flags == _TEXT:
            return value.decode()
        return codec.unpack(value) if flags == _TYPED else value


class Memcached(DependencyProvider):
    """Injects a `pymemcache.HashClient` for the servers of MEMCACHED_URIS; all workers share its connections.

    `options` are passed to the client. By default, values keep their types, and a server that does not answer within a second
    raises an error.
    """

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.options = options
        self.client: Any = None

    def setup(self) -> None:
        options = {"serde": TypedValues(), "connect_timeout": 1.0, "timeout": 1.0, **self.options}
        options.setdefault("max_pool_size", self.container.max_workers)
        servers = [_address(server) for server in self._servers()]
        self.client = HashClient(servers, use_pooling=True, **options)

    def _servers(self) -> list[Any]:
        servers = self.container.config.get(MEMCACHED_URIS_KEY)
        if not servers or not isinstance(servers, (list, tuple)):
            raise ConfigurationError(
                f"{MEMCACHED_URIS_KEY} is {servers!r}; a list of servers is needed, such as ['127.0.0.1:11211']"
            )
        return list(servers)

    def stop(self) -> None:
        client, self.client = self.client, None
        if client is not None:
            client.disconnect_all()

    def kill(self) -> None:
        self.stop()

    def get_dependency(self, worker_ctx: WorkerContext) -> Any:
        return self.client


def _address(server: object) -> tuple[str, int]:
    host, colon, port = str(server).removeprefix("memcached://").rpartition(":")
    if not colon or not host or not port.isdecimal():
        raise ConfigurationError(f"{MEMCACHED_URIS_KEY} has {server!r}; HOST:PORT is needed, such as 127.0.0.1:11211")
    return host.strip("[]"), int(port)
