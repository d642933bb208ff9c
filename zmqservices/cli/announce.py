"""What `zmqservices run` says in the directory of services beside their @rpc methods: routes, timers, handlers.

A container whose service needs no network opens no ZeroMQ socket; that it stands in the directory all the same is the doing
of this command, and only of it: see the setting ANNOUNCE.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from zmqservices import configuration, constants

_log = logging.getLogger(__name__)


def announce(runner: Any) -> Callable[[], None]:
    """Say it for all services of a runner that has started. Returns what takes it back, once they have stopped."""
    listed: list[tuple[Any, Any]] = []
    for container in runner.containers:
        try:
            place = _describe(container)
        except Exception as error:
            # The services run, which is what matters.
            _log.warning("%s is not shown in the directory as it could be: %s", container.service_name, error)
        else:
            if place is not None:
                listed.append(place)

    def conceal() -> None:
        while listed:
            node, registration = listed.pop()
            registration.conceal()
            registration.close()
            node.leave()

    return conceal


def _describe(container: Any) -> tuple[Any, Any] | None:
    """What is to be left at the end: the place of a container that has none of its own."""
    found = entrypoints_of(container)
    from zmqservices.membership import Membership

    membership = container.shared_extensions.get(Membership)
    if membership is not None:
        if found:
            node = membership.join()
            membership.registration().describe(found, endpoints_of(container, node))
        return None
    config = container.config
    if not configuration.boolean(config, constants.ANNOUNCE_CONFIG_KEY, constants.DEFAULT_ANNOUNCE):
        return None
    if configuration.directory_url(config).startswith("static:"):
        return None  # A fixed list shows what it shows.
    from zmqservices.cluster.node import Node
    from zmqservices.cluster.settings import Settings

    node = Node.join(Settings.read(config))
    registration = node.register(container.service_name)
    registration.describe(found, endpoints_of(container, node))
    return node, registration


def entrypoints_of(container: Any) -> list[dict[str, Any]]:
    """A mapping for each entrypoint that is no @rpc, in the order of methods."""
    told = [(entrypoint.method_name, entrypoint.listed()) for entrypoint in container.entrypoints]
    found = [{**what, "method": method} for method, what in told if what is not None]
    return sorted(found, key=lambda one: (one["kind"], one["method"], one["what"]))


def endpoints_of(container: Any, node: Any) -> dict[str, str]:
    """Where its web server is reached, if it has one."""
    for extension in container.subextensions:
        bound = getattr(extension, "address", None) if hasattr(extension, "get_wsgi_app") else None
        if bound is not None:
            host, port = bound
            host = f"[{host}]" if ":" in host else host or "0.0.0.0"
            return {"http": node.advertised(f"tcp://{host}:{port}", keep_port=True).replace("tcp://", "http://", 1)}
    return {}
