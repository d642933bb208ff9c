"""HelloWorld with an injected cache.

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
        """Called once, before calls may arrive."""
        self._client = CacheClient()

    def get_dependency(self, worker_ctx: Any) -> CacheClient:
        """Called for every worker: returns what `self.cache` is in the method."""
        return self._client


class HelloWorld:
    name = "hello_world"

    cache = Cache()

    @rpc(idempotent=True)
    def hello(self, name: str) -> str:
        """Greet somebody; the greeting is made once and then found in the cache."""
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
    """The second service of the talk: it calls the first one as if it were an object of its own."""

    name = "greeter"

    hello_world = RpcProxy("hello_world")

    @rpc(idempotent=True)
    def greet_all(self, names: list[str]) -> list[str]:
        """Greet everybody at once: the calls run side by side."""
        calls = [self.hello_world.hello.call_async(name) for name in names]
        return [call.result() for call in calls]
