"""`@timer` makes a method run at intervals: on every instance of the service or, with `cluster=True`, on one of them."""

from zmqservices.timer.entrypoint import Timer, timer

__all__ = ["Timer", "timer"]
