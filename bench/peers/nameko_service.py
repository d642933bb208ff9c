"""The service that `nameko run` runs; imported only in Nameko's environment."""

from __future__ import annotations

from nameko.rpc import rpc


class Bench:
    """The work."""

    name = "bench"

    @rpc
    def add(self, a: int, b: int) -> int:
        return a + b

    @rpc
    def echo(self, blob: str) -> str:
        return blob
