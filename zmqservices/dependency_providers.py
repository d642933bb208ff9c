"""Providers for every service: the settings, and a logger whose records name the call."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from zmqservices.extensions import DependencyProvider
from zmqservices.worker_context import WorkerContext

__all__ = ["CallLogger", "Config", "Logger"]


class Config(DependencyProvider):
    """Injects a copy of the container's settings. Changes to the copy have no effect elsewhere.

    Deprecated in Nameko 3, and kept for services that use it: `from zmqservices import config` needs no provider.
    """

    def get_dependency(self, worker_ctx: WorkerContext) -> dict[str, Any]:
        return dict(self.container.config)


class CallLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose records have `service_name`, `method_name`, `call_id` and `call_id_stack`.

    A format such as `"%(call_id)s %(message)s"` shows them. They are computed only for records that are logged.
    """

    def __init__(self, logger: logging.Logger, worker_ctx: WorkerContext) -> None:
        super().__init__(logger, {})
        self._worker_ctx = worker_ctx

    def process(self, msg: object, kwargs: MutableMapping[str, Any]) -> tuple[object, MutableMapping[str, Any]]:
        worker_ctx = self._worker_ctx
        of_the_call = {
            "service_name": worker_ctx.service_name,
            "method_name": worker_ctx.entrypoint.method_name,
            "call_id": worker_ctx.call_id,
            "call_id_stack": worker_ctx.call_id_stack,
        }
        return msg, {**kwargs, "extra": {**of_the_call, **(kwargs.get("extra") or {})}}


class Logger(DependencyProvider):
    """Injects a `CallLogger`. The name of the logger is `name`, or else the module of the service class."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__()
        self.name = name

    def setup(self) -> None:
        self.logger = logging.getLogger(self.name or self.container.service_cls.__module__)

    def get_dependency(self, worker_ctx: WorkerContext) -> CallLogger:
        return CallLogger(self.logger, worker_ctx)
