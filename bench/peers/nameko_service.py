"""What `nameko run` runs; imported in Nameko's own environment only."""

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
