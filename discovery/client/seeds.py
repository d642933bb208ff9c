"""Seeds: where a client looks for registries. Each seed resolves its URL to addresses before every attempt to connect.

ZeroMQ is given IP addresses only, since it would look up a name once and keep the first answer for ever.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Callable
from typing import Protocol

from discovery.client.connection import DirectoryConnection, DirectoryListener, Post
from discovery.client.registry_connection import RegistryConnection
from discovery.exceptions import DirectoryConfigurationError
from discovery.native import Log, NativeThread, getaddrinfo, native_lock
from discovery.security.keys import Keys
from discovery.server.registry_server import RegistryServer

_log = Log(__name__)

#: The well-known loopback port of a machine's own directory.
LOCAL_PORT = 4190
LOCAL_PORT_ENVIRONMENT_KEY = "ZMQSERVICES_LOCAL_PORT"
#: The most addresses of one name. Each counts as a separate registry.
MAX_ADDRESSES = 16

NEVER = float("inf")

#: Called once, on any thread, with addresses, or with none and a sentence that says why.
Done = Callable[[list[str], str | None], None]


class Seed(Protocol):
    """Resolves one part of a directory's URL to the addresses of registries."""

    url: str
    #: Advice for the user when something that is not a registry listens at the address; may be empty.
    hint: str
    #: Seconds after which `prepare` must be called again although nothing has failed.
    valid_for: float
    #: Whether each address lists its own records only. The view is then complete once all of them have answered.
    is_partial: bool

    def prepare(self, done: Done) -> None:
        """Resolves the addresses and calls `done`. Returns at once."""

    def connection(
        self, address: str, namespace: str | None, listener: DirectoryListener, longest_pause: float, post: Post
    ) -> DirectoryConnection:
        """A connection to one address that `prepare` found, not yet opened. `post`: see `connection.Post`."""

    def also_reaches(self, connection: DirectoryConnection) -> None:
        """`prepare` found the address of this connection, which was made for another seed. It stays the only one there."""

    def close(self, timeout: float) -> None:
        """Called when the directory stops."""


class _RegistrySeed:
    """The common part of all seeds for registries."""

    hint = ""
    valid_for = NEVER
    is_partial = False
    _keys: Keys | None = None

    def connection(
        self, address: str, namespace: str | None, listener: DirectoryListener, longest_pause: float, post: Post
    ) -> RegistryConnection:
        """A connection over ZeroMQ."""
        return RegistryConnection(address, namespace, listener, longest_pause, self.hint, self._keys)

    def also_reaches(self, connection: DirectoryConnection) -> None:
        """Does nothing: all registries of a cluster are reached in the same way."""


class AddressSeed(_RegistrySeed):
    """A registry whose URL has an IP address."""

    def __init__(self, url: str, keys: Keys | None = None) -> None:
        self.url = url
        self._keys = keys

    def prepare(self, done: Done) -> None:
        """Returns at once: the address is known."""
        done([self.url], None)

    def close(self, timeout: float) -> None:
        """Does nothing: there is nothing to close."""


class NameSeed(_RegistrySeed):
    """Registries behind a host name: one for each address that it resolves to."""

    def __init__(self, url: str, name: str, port: int, keys: Keys | None = None) -> None:
        self.url = url
        self._keys = keys
        self._name = name
        self._port = port

    def prepare(self, done: Done) -> None:
        """Looks the name up in a separate thread, since that may take seconds."""
        try:
            NativeThread(lambda: self._look_up(done), "discovery-resolver").start()
        except RuntimeError as exc:
            done([], f"the name {self._name} was not looked up: {exc}")

    def _look_up(self, done: Done) -> None:
        try:
            found = getaddrinfo(self._name, self._port, 0, socket.SOCK_STREAM)
        except (OSError, UnicodeError) as exc:
            done([], f"the name {self._name} was not found: {exc}; is it misspelt in the URL?")
            return
        addresses = {tcp_address(str(item[4][0]), self._port) for item in found}
        done(sorted(addresses)[:MAX_ADDRESSES], None)

    def close(self, timeout: float) -> None:
        """Does nothing: a look-up ends by itself."""


class LocalSeed(_RegistrySeed):
    """The machine's own registry. This process hosts it unless another one does, and takes over when that process dies."""

    def __init__(self, port: int, ttl: float, host: bool, keys: Keys | None = None) -> None:
        self.url = "local"
        self._keys = keys
        self.address = f"tcp://127.0.0.1:{port}"
        self.hint = (
            f"if port {port} of this machine belongs to another program, set {LOCAL_PORT_ENVIRONMENT_KEY} to one that is free"
        )
        if keys is not None:
            # A service does not have the keys of a registry, and must not.
            host = False
            self.hint = f"with SECURITY no service hosts a registry: run `zmqservices registry serve --bind {self.address}`"
        self._ttl = ttl
        self._host = host
        self._lock = native_lock()
        self._server: RegistryServer | None = None
        self._is_closed = False

    def prepare(self, done: Done) -> None:
        """Tries to bind the port: exactly one process on the machine can, and the others connect to it."""
        with self._lock:
            if self._is_closed or not self._host or (self._server is not None and self._server.is_serving):
                server = None
            else:
                # No self-preservation: loopback never fails, so a silent process is dead.
                server = self._server = RegistryServer(
                    self.address,
                    ttl=self._ttl,
                    preserve=False,
                    on_bound=lambda error: self._bound(error, done),
                )
        if server is None:
            done([self.address], None)
            return
        try:
            server.start()
        except RuntimeError as exc:
            done([], f"no thread for the local registry: {exc}")

    def _bound(self, error: Exception | None, done: Done) -> None:
        if error is None:
            _log.info("hosts the directory of this machine at %s", self.address)
        elif getattr(error, "errno", None) != errno.EADDRINUSE:
            _log.warning("cannot host the directory of this machine at %s: %s", self.address, error)
        done([self.address], None)

    @property
    def is_hosting(self) -> bool:
        """Whether this process hosts the registry now."""
        server = self._server
        return server is not None and server.is_serving

    def close(self, timeout: float) -> None:
        """Stops hosting, so that another process can bind the port."""
        with self._lock:
            self._is_closed = True
            server = self._server
        if server is not None and server.is_serving:
            server.stop(timeout, blocking=True)


def local_seed(port: int | None, ttl: float, host: bool, keys: Keys | None = None) -> LocalSeed:
    """The seed of `local:`, with the given port, or that of the environment, or the well-known one."""
    if port is None:
        text = os.environ.get(LOCAL_PORT_ENVIRONMENT_KEY, "").strip() or str(LOCAL_PORT)
        if not is_port(text) or int(text) == 0:
            raise DirectoryConfigurationError(
                f"{LOCAL_PORT_ENVIRONMENT_KEY} is {text!r}; a port number from 1 to 65535 is needed"
            )
        port = int(text)
    return LocalSeed(port, ttl, host, keys)


def tcp_seed(url: str, keys: Keys | None = None) -> Seed:
    """The seed for tcp://host:port; DirectoryConfigurationError when `url` is something else."""
    host, port = split_tcp(url)
    try:
        return AddressSeed(tcp_address(str(ipaddress.ip_address(host)), port), keys)
    except ValueError:
        return NameSeed(f"tcp://{host}:{port}", host, port, keys)


def is_port(text: str) -> bool:
    """Whether this is a number from 0 to 65535. The length is checked first: `int` refuses thousands of digits."""
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) < 65536


def split_tcp(url: str, lowest_port: int = 1) -> tuple[str, int]:
    """Host and port of tcp://host:port; IPv6 addresses are in brackets. DirectoryConfigurationError for anything else."""
    scheme, _, rest = url.strip().partition("://")
    host, colon, port = (rest, "", "") if rest.endswith("]") or ":" not in rest else rest.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if scheme != "tcp" or not host or any(character in host for character in "/@?# \t;"):
        raise DirectoryConfigurationError(f"the registry's URL is {url!r}; tcp://HOST:PORT is needed")
    if not (colon and is_port(port) and lowest_port <= int(port)):
        raise DirectoryConfigurationError(
            f"the registry's URL is {url!r}; a port from {lowest_port} to 65535 is needed, as in tcp://10.0.0.5:4190"
        )
    return host, int(port)


def bind_address(url: str) -> str:
    """The address that a registry binds. `*` and IP addresses stay as they are, a name is looked up. Port 0 means any port."""
    host, port = split_tcp(url, lowest_port=0)
    if host == "*":
        return f"tcp://*:{port}"
    try:
        return tcp_address(str(ipaddress.ip_address(host)), port)
    except ValueError:
        pass
    try:
        found = getaddrinfo(host, port, 0, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        raise DirectoryConfigurationError(f"the name {host} in {url!r} was not found: {exc}") from exc
    # IPv4 if the name has both: one socket listens at one address.
    first = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return tcp_address(str(first[4][0]), port)


def tcp_address(ip: str, port: int) -> str:
    """An IP address and a port as ZeroMQ writes them."""
    return f"tcp://[{ip}]:{port}" if ":" in ip else f"tcp://{ip}:{port}"
