"""A service that remembers what became of its own workers."""

from __future__ import annotations

import logging
import time
from typing import Any

import gevent

from zmqservices.extensions import DependencyProvider
from zmqservices.rpc import rpc

_log = logging.getLogger(__name__)


class Diary(DependencyProvider):
    """Injects the list in which workers write what happens to them; writes in it when one is torn down."""

    def setup(self) -> None:
        self.lines: list[str] = []

    def get_dependency(self, worker_ctx: Any) -> list[str]:
        return self.lines

    def worker_result(self, worker_ctx: Any, result: Any = None, exc_info: Any = None) -> None:
        if worker_ctx.entrypoint.method_name == "hold":
            outcome = "returned" if exc_info is None else exc_info[0].__name__
            self.lines.append(f"{worker_ctx.args[0]}: result {outcome}")

    def worker_teardown(self, worker_ctx: Any) -> None:
        if worker_ctx.entrypoint.method_name == "hold":
            self.lines.append(f"{worker_ctx.args[0]}: torn down")


class TimeLeft(DependencyProvider):
    """Injects the seconds that the call has left; None for ever."""

    def get_dependency(self, worker_ctx: Any) -> float | None:
        return None if worker_ctx.deadline is None else worker_ctx.deadline - time.monotonic()


class Witness:
    name = "witness"

    diary = Diary()
    left = TimeLeft()

    @rpc
    def hold(self, mark: str, seconds: float) -> str:
        """Writes `mark` with what happened: that it began, and that it ended or was cancelled."""
        self.diary.append(f"{mark}: began")
        _log.info("holds %s", mark)
        try:
            gevent.sleep(seconds)
        except BaseException as exc:
            self.diary.append(f"{mark}: {type(exc).__name__}")
            raise
        self.diary.append(f"{mark}: ended")
        return mark

    @rpc(idempotent=True)
    def lines(self, mark: str) -> list[str]:
        return [line.partition(": ")[2] for line in self.diary if line.startswith(f"{mark}: ")]

    @rpc
    def time_left(self) -> float | None:
        return self.left
