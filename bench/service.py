"""The service that the benchmark calls, with nothing in it that only a benchmark would have."""

from zmqservices.rpc import rpc


class Adder:
    name = "adder"

    @rpc
    def add(self, a: int, b: int) -> int:
        return a + b
