"""Lists the services of `zmqservices run` in the directory, with their routes, timers and event handlers.

A service with only @http and @timer methods opens no ZeroMQ socket by itself. `zmqservices run` still lists it in the directory,
unless the setting ANNOUNCE is false. If no service of the process is part of the cluster, a client of the directory is enough
for that, and no node is started.
"""

from __future__ import annotations

import logging
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from zmqservices import configuration, constants
from zmqservices.exceptions import ConfigurationError
from zmqservices.observability.node_address import OPERATORS

if TYPE_CHECKING:
    from zmqservices.cluster.node import Node
    from zmqservices.containers import ServiceContainer
    from zmqservices.membership import Membership
    from zmqservices.runners import ServiceRunner

_log = logging.getLogger(__name__)

#: Seconds in which the directory must confirm a withdrawal.
WITHDRAW_TIMEOUT = 1.0


class Announcement:
    """Lists all services of a runner. To be created before they start. Raises ConfigurationError for a wrong setting."""

    def __init__(self, runner: ServiceRunner) -> None:
        self._runner = runner
        self._closers: list[Callable[[], None]] = []
        #: By the id of each node of this process: the address at which it answers operators.
        self._operators: dict[str, str] = {}
        self._is_wanted = configuration.boolean(runner.config, constants.ANNOUNCE_CONFIG_KEY, constants.DEFAULT_ANNOUNCE)
        self._lean: DirectoryClient | None = None
        if self._is_wanted and not any(map(_membership_of, runner.containers)):
            self._lean = DirectoryClient(runner.config)
            if not self._lean.can_announce:
                self._lean, self._is_wanted = None, False
            elif configuration.boolean(runner.config, constants.STATISTICS_CONFIG_KEY, False):
                self._lean = None  # STATISTICS is set, and only a node can be asked for statistics.
        if self._is_wanted:
            self._own()

    def _own(self) -> None:
        """Give each instance an id with the name of its service, before anything is announced."""
        from discovery.security.envelopes import own_id
        from zmqservices.cluster.settings import Settings

        if self._lean is None:
            # Imported before the services listen: connections may have taken all file descriptors by then.
            import zmqservices.observability.node_operators  # noqa: F401

        for container in self._runner.containers:
            container.instance_id = own_id(Settings.read(container.config).keys, container.instance_id)

    def announce(self) -> None:
        """List all services. Called once they have started."""
        for container in self._runner.containers:
            try:
                self._describe(container)
            except Exception as error:
                # Only a warning: the services can be called all the same.
                _log.warning("the entrypoints of %s could not be listed in the directory: %s", container.service_name, error)

    def conceal(self) -> None:
        """Withdraw the listed services. Called once they have stopped."""
        while self._closers:
            self._closers.pop()()

    def _describe(self, container: ServiceContainer) -> None:
        found = entrypoints_of(container)
        membership = _membership_of(container)
        if membership is not None:
            node = membership.join()
            operators = self._operators_of(node)
            if found:
                endpoints = {**endpoints_of(container, node.addresses.advertised), OPERATORS: operators}
                membership.registration().describe(found, endpoints)
        elif self._lean is not None:
            if not self._closers:
                self._closers.append(self._lean.start())
            endpoints = endpoints_of(container, self._lean.advertised)
            self._lean.announce(container.service_name, container.instance_id, found, endpoints)
        elif self._is_wanted:
            self._closers.append(self._take_place(container, found))

    def _operators_of(self, node: Node) -> str:
        """The address at which the node answers operators. The first call opens it."""
        from zmqservices.cli.schema import contracts_of
        from zmqservices.observability.node_operators import NodeOperators

        if node.id not in self._operators:
            self._operators[node.id] = NodeOperators(node, self._runner.containers, contracts_of).serve()
        return self._operators[node.id]


    def _take_place(self, container: ServiceContainer, found: list[dict[str, Any]]) -> Callable[[], None]:
        """List a service on the node of this process. Returns a function that withdraws it."""
        from zmqservices.cluster.node import Node
        from zmqservices.cluster.settings import Settings

        node = Node.join(Settings.read(container.config))
        registration = node.register(container.service_name, container.instance_id)

        def leave() -> None:
            registration.conceal()
            registration.close()
            node.leave()

        endpoints = {**endpoints_of(container, node.addresses.advertised), OPERATORS: self._operators_of(node)}
        registration.describe(found, endpoints)
        return leave


class DirectoryClient:
    """Lists services of a process without a node. Raises ConfigurationError for wrong settings."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        import discovery
        from zmqservices.cluster.settings import Settings

        self.settings = Settings.read(config)
        try:
            self._directory = discovery.open_directory(
                self.settings.directory,
                namespace=self.settings.namespace,
                cache_dir=self.settings.directory_cache,
                ttl=self.settings.directory_ttl,
                services=(),
                keys=self.settings.keys,
            )
        except discovery.DirectoryError as exc:
            raise ConfigurationError(str(exc)) from exc
        self.can_announce = self._directory.capabilities.can_announce
        self._node = os.urandom(6).hex()
        self._listed: list[str] = []

    def start(self) -> Callable[[], None]:
        """Start the client; services may be announced from now on. Returns a function that withdraws all of them."""
        self._directory.start()
        return self._stop

    def advertised(self, bound: str, keep_port: bool = False) -> str:
        """The address that is announced for the bound address `bound`."""
        from zmqservices.transport import addresses

        servers = self._directory.capabilities.servers
        return addresses.advertised(bound, servers, self.settings.advertise_address, keep_port)

    def announce(
        self, service: str, instance: str, entrypoints: list[dict[str, Any]], endpoints: dict[str, str]
    ) -> None:
        """List one instance of a service."""
        import discovery

        record = discovery.Record(
            service=service,
            instance=instance,
            node=self._node,
            incarnation=time.time_ns() // 1000,
            version=1,
            namespace=self.settings.namespace,
            endpoints=endpoints,
            ttl=self.settings.directory_ttl,
            zone=self.settings.resilience.preferences.zone,
            weight=self.settings.resilience.weight,
            tags={constants.LISTED_ENTRYPOINTS_TAG: entrypoints},
            host=platform.node(),
            pid=os.getpid(),
            public_key=None if self.settings.keys is None else self.settings.keys.pair.public.hex(),
        )
        self._directory.announce(record)
        self._listed.append(record.instance)

    def _stop(self) -> None:
        from zmqservices.utils.concurrency import in_thread

        for instance in self._listed:
            self._directory.withdraw(instance)
        in_thread(self._directory.stop, WITHDRAW_TIMEOUT)


def _membership_of(container: ServiceContainer) -> Membership | None:
    """The container's Membership, or None. It is found without importing ZeroMQ."""
    module = sys.modules.get("zmqservices.membership")
    return None if module is None else container.shared_extensions.get(module.Membership)


def entrypoints_of(container: ServiceContainer) -> list[dict[str, Any]]:
    """A mapping for each entrypoint other than @rpc, with signature and docstring, sorted by kind and method."""
    from zmqservices.observability.described import LONGEST_SIGNATURE, doc_of
    from zmqservices.utils.shown_signatures import shown_signature

    told = [(entrypoint.method_name, entrypoint.listed()) for entrypoint in container.entrypoints]
    found = [
        {**what, "method": method, "signature": shown_signature(function)[:LONGEST_SIGNATURE], "doc": doc_of(function)}
        for method, what in told
        if what is not None
        for function in [getattr(container.service_cls, method)]
    ]
    return sorted(found, key=lambda one: (one["kind"], one["method"], one["what"]))


def endpoints_of(container: ServiceContainer, advertised: Callable[..., str]) -> dict[str, str]:
    """The address of the service's web server, if it has one. `advertised` makes an announced address of a bound one."""
    for extension in container.subextensions:
        bound = getattr(extension, "address", None) if hasattr(extension, "get_wsgi_app") else None
        if bound is not None:
            host, port = bound
            host = f"[{host}]" if ":" in host else host or "0.0.0.0"  # nosec B104  # shown, not bound
            address = advertised(f"tcp://{host}:{port}", keep_port=True)
            return {"http": address.replace("tcp://", "http://", 1)}
    return {}
