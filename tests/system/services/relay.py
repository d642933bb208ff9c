"""A service that calls others."""

from __future__ import annotations

from typing import Any

from zmqservices.rpc import RpcProxy, rpc


class Relay:
    name = "relay"

    maths = RpcProxy("maths")
    witness = RpcProxy("witness", timeout=30)

    @rpc
    def add(self, a: Any, b: Any) -> Any:
        return self.maths.add(a, b)

    @rpc
    def time_left(self) -> float:
        """What the service that is called from here has left."""
        return self.witness.time_left()

    @rpc
    def hold(self, mark: str, seconds: float) -> str:
        return self.witness.hold(mark, seconds)
