"""A service with an injected cache, and a second service that calls the first.

Run it with `zmqservices run examples.hello` and call it with `zmqservices call hello_world.hello Ada`.
"""

from __future__ import annotations

from typing import Any

from zmqservices.extensions import DependencyProvider
from zmqservices.rpc import RpcProxy, rpc


class CacheClient:
    """A cache in the memory of this process. A remote cache would look the same to the service."""

    def __init__(self) -> None:
        self._items: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self._items.get(key)

    def set(self, key: str, value: Any) -> None:
        self._items[key] = value


class Cache(DependencyProvider):
    """Injects one CacheClient into every worker of the service."""

    def setup(self) -> None:
        """Called once for each container, before calls may arrive."""
        self._client = CacheClient()

    def get_dependency(self, worker_ctx: Any) -> CacheClient:
        """Called for every worker. The method finds the returned object as `self.cache`."""
        return self._client


class HelloWorld:
    name = "hello_world"

    cache = Cache()

    @rpc(idempotent=True)
    def hello(self, name: str) -> str:
        """Greet somebody. The greeting is made once for each name; later calls find it in the cache."""
        greeting = self.cache.get(name)
        if greeting is None:
            greeting = f"Hello, {name}!"
            self.cache.set(name, greeting)
        return greeting

    @rpc
    def what_is_cache(self) -> dict[str, str]:
        """The class attribute is the unbound declaration. The instance attribute is the injected client."""
        return {"on the class": repr(type(self).cache), "on the instance": repr(self.cache)}


class Greeter:
    """The second service. It calls the first one as if `hello_world` were a local object."""

    name = "greeter"

    hello_world = RpcProxy("hello_world")

    @rpc(idempotent=True)
    def greet_all(self, names: list[str]) -> list[str]:
        """Greet everybody. All calls are in flight at the same time."""
        calls = [self.hello_world.hello.call_async(name) for name in names]
        return [call.result() for call in calls]
