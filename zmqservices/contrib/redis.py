"""A Redis client for services. Needs redis-py; the extra is `redis`.

    class Basket:
        name = "basket"
        redis = Redis("baskets")

        @rpc
        def put(self, user, item):
            self.redis.rpush(user, item)

    # config.yaml
    # REDIS_URIS:
    #   baskets: redis://127.0.0.1:6379/0
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zmqservices.exceptions import ConfigurationError
from zmqservices.extensions import DependencyProvider
from zmqservices.worker_context import WorkerContext

try:
    import redis
except ImportError as error:
    raise ImportError("redis is not installed; `pip install zmqservices[redis]` brings it") from error

__all__ = ["REDIS_URIS_KEY", "Redis"]

#: The setting that maps the names that services use to the URLs of servers.
REDIS_URIS_KEY = "REDIS_URIS"


class Redis(DependencyProvider):
    """Injects a `redis.Redis` for the server that has the key `name` in REDIS_URIS; all workers share its connections.

    `options` are passed to `redis.Redis.from_url`. By default, answers are texts, and a connection that has been idle for half a
    minute is tested before it is used. Connections are made when they are needed: if the server is down, the call that needs it
    fails, and not the start of the service.
    """

    def __init__(self, name: str, **options: object) -> None:
        super().__init__()
        self.name = name
        self.options = {"decode_responses": True, "health_check_interval": 30, **options}
        self.client: Any = None

    def setup(self) -> None:
        uris = self.container.config.get(REDIS_URIS_KEY)
        uri = uris.get(self.name) if isinstance(uris, Mapping) else None
        if not uri:
            raise ConfigurationError(
                f"{REDIS_URIS_KEY} has no {self.name!r}; it is {uris!r}, and a mapping such as "
                f"{{{self.name!r}: 'redis://127.0.0.1:6379/0'}} is needed"
            )
        try:
            self.client = redis.Redis.from_url(uri, **self.options)
        except ValueError as exc:
            raise ConfigurationError(f"{REDIS_URIS_KEY}[{self.name!r}] is {uri!r}; {exc}") from exc

    def stop(self) -> None:
        client, self.client = self.client, None
        if client is not None:
            client.close()

    def kill(self) -> None:
        self.stop()

    def get_dependency(self, worker_ctx: WorkerContext) -> Any:
        return self.client
