"""Runs several services in one process: starts, stops and awaits them together."""

from __future__ import annotations

import logging
from collections.abc import Iterator, KeysView, Mapping, ValuesView
from contextlib import contextmanager
from typing import Any

from gevent.lock import RLock

from zmqservices.configuration import config as global_config
from zmqservices.containers import ServiceContainer, get_container_cls, get_service_name
from zmqservices.hosting.configured_probes import attach_configured, detach_configured
from zmqservices.utils.concurrency import SpawningProxy

__all__ = ["ServiceRunner", "run_services"]

_log = logging.getLogger(__name__)


class ServiceRunner:
    """Hosts service classes in one process, each in a separate container.

        runner = ServiceRunner()
        runner.add_service(Maths)
        runner.start()
        runner.wait()
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        self.config: Mapping[str, Any] = global_config if config is None else config
        self.service_map: dict[str, ServiceContainer] = {}
        self.container_cls = get_container_cls(config)
        self._probes: list[str] = []
        self._detaching = RLock()

    @property
    def service_names(self) -> KeysView[str]:
        """The names of the services that were added."""
        return self.service_map.keys()

    @property
    def containers(self) -> ValuesView[ServiceContainer]:
        """The containers of these services."""
        return self.service_map.values()

    def add_service(self, cls: type) -> None:
        """Make a container for `cls`. A second class with the same service name replaces the first."""
        name = get_service_name(cls)
        self.service_map[name] = self.container_cls(cls, self.config)

    def start(self) -> None:
        """Start all containers concurrently, and return when all have started. Raises the first error."""
        _log.info("starting services: %s", ", ".join(self.service_names))
        self._probes += attach_configured(self.config)
        SpawningProxy(self.containers).start()
        _log.debug("services started: %s", ", ".join(self.service_names))

    def stop(self) -> None:
        """Stop all containers gracefully and concurrently, and return when all have stopped."""
        _log.info("stopping services: %s", ", ".join(self.service_names))
        SpawningProxy(self.containers).stop()
        self._detach()
        _log.debug("services stopped: %s", ", ".join(self.service_names))

    def kill(self) -> None:
        """Kill all containers concurrently."""
        _log.info("killing services: %s", ", ".join(self.service_names))
        SpawningProxy(self.containers).kill()
        detach_configured(self._probes, is_killed=True)
        _log.debug("services killed: %s", ", ".join(self.service_names))

    def wait(self) -> None:
        """Block until all containers have stopped, and probes have written their last data.

        If a container dies of an error, the others are stopped gracefully, and the error is raised.
        """
        try:
            SpawningProxy(self.containers, abort_on_error=True).wait()
        except Exception:
            self.stop()
            raise
        self._detach()

    def _detach(self) -> None:
        # Under a lock, so that a second caller waits for the first one: a program ends when `wait` returns.
        with self._detaching:
            detach_configured(self._probes)


@contextmanager
def run_services(*services: type | Mapping[str, Any], kill_on_exit: bool = False) -> Iterator[ServiceRunner]:
    """Run services during a block: `with run_services(Maths, Words): ...`.

    A configuration may come first; the default is the process's own. At the end of the block the services are stopped; with
    `kill_on_exit` they are killed. If a service fails to start, the others are killed.
    """
    config, service_classes = _part_config(services)
    runner = ServiceRunner(config)
    for service_cls in service_classes:
        runner.add_service(service_cls)
    try:
        runner.start()
    except BaseException:
        runner.kill()
        raise
    try:
        yield runner
    finally:
        if kill_on_exit:
            runner.kill()
        else:
            runner.stop()


def _part_config(arguments: tuple[Any, ...]) -> tuple[Mapping[str, Any] | None, tuple[type, ...]]:
    if arguments and not isinstance(arguments[0], type):
        return arguments[0], arguments[1:]
    return None, arguments
