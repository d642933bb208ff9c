"""The web server of the dashboard: its address, its start and its end."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from zmqservices import constants
from zmqservices.dashboard.access import is_loopback
from zmqservices.dashboard.collector import Collector
from zmqservices.dashboard.pages import Pages
from zmqservices.exceptions import CommandError, ConfigurationError
from zmqservices.web.addresses import BindAddress, listen
from zmqservices.web.listening import Server
from zmqservices.web.protocol import HttpOnlyProtocol

#: Seconds in which open requests must end when the server stops.
CLOSING_TIMEOUT = 1.0


class Dashboard:
    """`start` listens, `stop` closes everything. Raises CommandError for an address that is not allowed or cannot be bound."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        address: str = "127.0.0.1",
        port: int = 0,
        may_operate: bool = False,
        allows_remote: bool = False,
        names: Collection[str] = (),
    ) -> None:
        is_local = is_loopback(address)
        if not is_local and not allows_remote:
            raise CommandError(
                f"--address {address!r:.100} can be reached by others, and the dashboard asks nobody for a password; "
                "leave the option out and open an ssh tunnel, or add --allow-remote"
            )
        if not is_local and may_operate:
            raise CommandError(
                f"--operate cannot be used with --address {address!r:.100}: everybody who reaches it could drop dead letters; "
                "leave --address out and open an ssh tunnel"
            )
        self._bind_address = BindAddress(address.strip("[]"), port)
        self.collector = Collector(settings)
        self._pages = Pages(self.collector, may_operate, is_local, names)
        self._server: Server | None = None

    def start(self) -> str:
        """Listen and begin to collect. Returns the URL."""
        try:
            sock = listen(self._bind_address, reuse_port=False)
        except ConfigurationError as error:
            raise CommandError(
                f"the dashboard cannot listen at {self._bind_address}: {_reason(error)}; --port 0 takes any free port"
            ) from error
        host, port = sock.getsockname()[:2]
        environ = {"SERVER_NAME": host, "SERVER_PORT": str(port)}
        idle = constants.DEFAULT_WEB_SERVER_IDLE_TIMEOUT
        self._server = Server(sock, self._pages, HttpOnlyProtocol, idle, environ)
        self._server.start()
        self.collector.start()
        return f"http://{BindAddress(host, port)}/"

    def stop(self) -> None:
        """Close all connections."""
        self._pages.close()
        if self._server is not None:
            self._server.close()
            self._server.pool.kill(block=True, timeout=CLOSING_TIMEOUT)
        self.collector.stop()


def _reason(error: ConfigurationError) -> str:
    cause = error.__cause__
    return cause.strerror.lower() if isinstance(cause, OSError) and cause.strerror else str(cause or error)
