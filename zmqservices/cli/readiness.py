"""Reports whether a process is ready: with a file, with a port, and to systemd.

A process is ready from the moment when all its services are up until they begin to stop. A killed process leaves its file
behind, and the next process removes the file when it starts. Without a setting or NOTIFY_SOCKET, nothing is reported.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zmqservices import configuration, constants
from zmqservices.exceptions import ConfigurationError

if TYPE_CHECKING:
    import socket

_log = logging.getLogger(__name__)

#: The variable with the socket to which a service of `Type=notify` sends its state (sd_notify(3)).
NOTIFY_SOCKET = "NOTIFY_SOCKET"


class Readiness:
    """Call `open` when all services are up, `close` when one of them is not any more, and `stopping` at the end."""

    def __init__(self, path: Path | None = None, address: tuple[str, int] | None = None, notify: str = "") -> None:
        self._path = path
        self._address = address
        self._notify = notify
        self.is_open = False
        #: Bound from the start, so that a port in use is an error at the start. It listens while the process is ready. The
        #: owner's loop calls `accept` when the socket is readable.
        self.listener: socket.socket | None = None if address is None else self._bind(address)
        self._remove_file()

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Readiness:
        """The reports that READY_FILE, READY_ADDRESS and the environment ask for.

        Raises ConfigurationError for a value of the wrong kind, a file that cannot be written, or a port in use.
        """
        file = configuration.text(settings, constants.READY_FILE_CONFIG_KEY, None)
        path = Path(file).absolute() if file else None
        if path is not None and not path.parent.is_dir():
            raise ConfigurationError(f"READY_FILE is {file!r}, and there is no folder {str(path.parent)!r}; make it first")
        if path is not None and (path.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK)):
            folder = str(path.parent)
            why = "that is a folder" if path.is_dir() else f"this user may not write into {folder!r}"
            raise ConfigurationError(f"READY_FILE is {file!r}, and {why}; name another file")
        # Only this process speaks to systemd: its children are not the main process of the unit.
        return cls(path, _address(settings), os.environ.pop(NOTIFY_SOCKET, ""))

    def open(self) -> None:
        """Report that all services are up. Logs an error and does not raise it: the services go on running."""
        if self.is_open:
            return
        self.is_open = True
        try:
            if self._path is not None:
                self._write_file(self._path)
            if self._address is not None:
                self.listener = self.listener or self._bind(self._address)
                self.listener.listen(16)
        except (OSError, ConfigurationError) as error:
            _log.warning("could not report that all services are ready: %s", error)
        self._tell_systemd("READY=1")

    def close(self) -> None:
        """Report that not all services are up any more."""
        self.is_open = False
        self._remove_file()
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.close()

    def stopping(self) -> None:
        """Report that the process is stopping, for good."""
        self.close()
        self._tell_systemd("STOPPING=1")
        self._notify = ""

    def accept(self) -> None:
        """Accept and close the waiting connections. The connection itself is the answer."""
        while self.listener is not None:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.close()

    @staticmethod
    def _write_file(path: Path) -> None:
        # Written in one step, so that a reader sees the whole file or none.
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            file.write(f"{os.getpid()}\n")
        os.chmod(file.name, 0o644)
        os.replace(file.name, path)

    def _remove_file(self) -> None:
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()

    @staticmethod
    def _bind(address: tuple[str, int]) -> socket.socket:
        import socket  # Only for processes that have such an address.

        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            raise ConfigurationError(f"cannot bind READY_ADDRESS {address[0]}:{address[1]}: {error.strerror}") from error
        return listener

    def _tell_systemd(self, state: str) -> None:
        if not self._notify:
            return
        import socket

        # A leading @ stands for the zero byte of Linux's abstract addresses.
        address = "\0" + self._notify[1:] if self._notify.startswith("@") else self._notify
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unit:
            unit.sendto(state.encode(), address)


def _address(settings: Mapping[str, Any]) -> tuple[str, int] | None:
    text = configuration.text(settings, constants.READY_ADDRESS_CONFIG_KEY, None)
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigurationError(f"READY_ADDRESS is {text!r}; HOST:PORT is needed, such as '0.0.0.0:9465'")
    return host.removeprefix("[").removesuffix("]"), int(port)
