"""The extension through which a container joins the cluster: the only module that knows both containers and nodes.

Internal. Extensions that call or publish use `zmqservices.rpc` and `zmqservices.events`.

Extensions that need the network declare `membership = Membership()` and call `self.membership.join()`. A container without such
an extension, for example with only @http methods, opens no ZeroMQ socket.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from discovery.security.envelopes import own_id
from zmqservices import constants
from zmqservices.cluster.node import Node
from zmqservices.cluster.registration import Registration
from zmqservices.cluster.settings import Settings
from zmqservices.exceptions import ConfigurationError
from zmqservices.extensions import SharedExtension
from zmqservices.wire.quoting import quoted
from zmqservices.wire.serializers import BUILTIN, Serializer, get_serializer
from zmqservices.worker_context import Container

M = TypeVar("M", bound="Membership")

_log = logging.getLogger(__name__)


def serializers_of(config: Mapping[str, Any]) -> Callable[[str], Serializer]:
    """A function that finds the serializers of a configuration by name. It raises ConfigurationError for an unknown name."""
    configured = config.get(constants.SERIALIZERS_CONFIG_KEY)

    @functools.cache
    def find(name: str) -> Serializer:
        return get_serializer(name, configured)

    return find


def accepted_serializers_of(config: Mapping[str, Any]) -> Callable[[str], Serializer]:
    """As `serializers_of`, for received values: only the serializers in ACCEPT.

    Without ACCEPT, these are the process's own serializer and the built-in ones, which make only plain values. The function
    raises ConfigurationError for others.
    """
    configured = config.get(constants.SERIALIZERS_CONFIG_KEY) or {}
    accept = config.get(constants.ACCEPT_CONFIG_KEY)
    if accept is None:
        own = config.get(constants.SERIALIZER_CONFIG_KEY) or constants.DEFAULT_SERIALIZER
        accept = [own, *(name for name in BUILTIN if name not in configured)]
    accepted = {name: get_serializer(name, configured) for name in accept}

    def find(name: str) -> Serializer:
        found = accepted.get(name)
        if found is None:
            raise ConfigurationError(
                f"serializer is {quoted(name)}, which is not known here, or not accepted; ACCEPT names {', '.join(accepted)}"
            )
        return found

    return find


def own_serializer(config: Mapping[str, Any], find: Callable[[str], Serializer]) -> Serializer | None:
    """The serializer for values that this process sends; None for the wire's own msgpack."""
    name = config.get(constants.SERIALIZER_CONFIG_KEY) or constants.DEFAULT_SERIALIZER
    return None if name == constants.DEFAULT_SERIALIZER else find(name)


class Membership(SharedExtension):
    """The membership of one container. Containers of one process with the same settings share one node."""

    def __init__(self) -> None:
        super().__init__()
        self._node: Node | None = None
        self._registration: Registration | None = None
        self._before_leaving: list[Callable[[], None]] = []
        #: Finds a serializer by name. Set once the cluster is joined.
        self.serializers: Callable[[str], Serializer] = serializers_of({})
        self.serializer: Serializer | None = None

    def bind(self: M, container: Container) -> M:
        """Also reads the container's settings, so that a wrong setting is reported when the container is made."""
        find = serializers_of(container.config)
        own_serializer(container.config, find)
        Settings.read(container.config)
        return super().bind(container)

    def setup(self) -> None:
        """Join the cluster. If another extension is set up earlier and calls `join`, that has happened already."""
        self.join()

    def join(self) -> Node:
        """This process's node; the first call joins it. Not a property, because binding an extension reads its properties."""
        if self._node is None:
            config = self.container.config
            self.serializers = accepted_serializers_of(config)
            self.serializer = own_serializer(config, serializers_of(config))
            settings = Settings.read(config)
            # Set before the instance is announced: with keys, the id shows the owner of the certificate.
            self.container.instance_id = own_id(settings.keys, self.container.instance_id)
            self._node = Node.join(settings)
        return self._node

    def registration(self) -> Registration:
        """This container's registration in the directory.

        Each container has its own, even if others run the same service here.
        """
        if self._registration is None:
            self._registration = self.join().register(self.container.service_name, self.container.instance_id)
        return self._registration

    def number(self) -> int:
        """The number of this container among those of its service in this process, from 1 on."""
        return 1 if self._registration is None else self._registration.number

    def before_leaving(self, callback: Callable[[], None]) -> None:
        """Call `callback` before the node is left, in whatever order the container's extensions end."""
        self._before_leaving.append(callback)

    def stop(self) -> None:
        self._leave()

    def kill(self) -> None:
        self._leave(at_once=True)

    def _leave(self, at_once: bool = False) -> None:
        node, self._node = self._node, None
        if node is None:
            return
        callbacks, self._before_leaving = self._before_leaving, []
        for callback in callbacks:
            try:
                callback()
            except Exception:
                _log.exception("a callback of %s failed while it left the cluster", self.container)
        if self._registration is not None:
            self._registration.close()
            self._registration = None
        node.leave(at_once)
