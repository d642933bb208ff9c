"""`zmqservices backdoor`: a Python prompt inside a running process.

A client can do everything that the process can do. So the process listens only if it was started with --backdoor-socket, at a
unix socket that only its user can reach, or with --backdoor-port, on loopback.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

import click

from zmqservices.exceptions import CommandError, ConfigurationError

if TYPE_CHECKING:
    from zmqservices.runners import ServiceRunner

LOOPBACK = "127.0.0.1"
BANNER = "A prompt inside the running process; `runner` is its ServiceRunner. Ctrl-D or quit() to leave."
#: The most bytes of one read.
CHUNK = 65536


def setup_backdoor(runner: ServiceRunner, port: int | str) -> Any:
    """Listen on loopback, or at a unix socket, and give each client a Python prompt with `runner`. Returns the server.

    `port`: 0 means any free port; a text is the path of a unix socket. Prints the address on stderr. Raises ConfigurationError if
    the port or the path is in use, or if other users could reach the socket.
    """
    from gevent.backdoor import BackdoorServer

    if isinstance(port, str):
        server = BackdoorServer(_unix_listener(port), locals={"runner": runner}, banner=BANNER)
        server.start()
        click.echo(f"Backdoor on {port}", err=True)
        return server
    server = BackdoorServer(_listener(port), locals={"runner": runner}, banner=BANNER)
    server.start()
    click.echo("The backdoor lets every user of this host run code in this process; --backdoor-socket keeps others out", err=True)
    click.echo(f"Backdoor on {LOOPBACK}:{server.server_port}", err=True)
    return server


def _listener(port: int) -> Any:
    from gevent import socket

    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"the backdoor cannot listen on port {port}: {error.strerror}") from error
    return listener


def _unix_listener(path: str) -> Any:
    """A listening unix socket that only its user can reach. Makes a private folder for it if there is none."""
    from gevent import socket

    folder = os.path.dirname(os.path.abspath(path))
    listener = socket.socket(socket.AF_UNIX)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        found = os.stat(folder)
        if found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise ConfigurationError(
                f"the backdoor cannot listen at {path}: other users can reach the folder {folder}; name a path in your own "
                f"folder, or run `chmod 700 {folder}`"
            )
        if _is_left_behind(path):
            os.unlink(path)
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen()
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"the backdoor cannot listen at {path}: {error.strerror or error}") from error
    except ConfigurationError:
        listener.close()
        raise
    return listener


def _is_left_behind(path: str) -> bool:
    """Whether the path is a socket of a process that has ended."""
    import socket
    import stat

    if not os.path.lexists(path) or not stat.S_ISSOCK(os.lstat(path).st_mode):
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
    return False


@click.command("backdoor")
@click.argument("target", metavar="PATH|[HOST:]PORT")
@click.option(
    "--rlwrap/--no-rlwrap",
    default=None,
    help="Edit lines with the program rlwrap. [default: if rlwrap is installed]",
)
def backdoor_command(target: str, rlwrap: bool | None) -> None:
    """Open a Python prompt inside a process that was started with --backdoor-socket or --backdoor-port.

    A PATH must contain a slash, such as ./backdoor. At the prompt, `runner` is the process's ServiceRunner.

    \b
    Examples:
        zmqservices run helloworld --backdoor-socket ~/.helloworld/backdoor
        zmqservices backdoor ~/.helloworld/backdoor
        zmqservices run helloworld --backdoor-port 3000
        zmqservices backdoor 3000
    """
    address: str | tuple[str, int] = target if "/" in target else parse_target(target)
    program = shutil.which("rlwrap")
    if rlwrap and not program:
        raise CommandError("there is no program 'rlwrap' on this host; install it, or use --no-rlwrap")
    if program and (rlwrap or (rlwrap is None and sys.stdin.isatty())):
        again = [sys.executable, "-m", "zmqservices", "backdoor", "--no-rlwrap", target]
        os.execv(program, [program, *again])
    talk(address)


def parse_target(target: str) -> tuple[str, int]:
    """Host and port of `[HOST:]PORT`. Raises CommandError for anything else."""
    host, _, port = target.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise CommandError(f"{target!r} is no [HOST:]PORT, such as 3000 or 127.0.0.1:3000")
    return host.strip("[]") or LOOPBACK, int(port)


def talk(address: str | tuple[str, int]) -> None:
    """Pass lines from stdin to a backdoor and its answers to stdout, until the other side ends."""
    import socket
    import threading

    is_path = isinstance(address, str)
    try:
        connection = _unix_connection(address) if isinstance(address, str) else socket.create_connection(address, timeout=10)
    except OSError as error:
        where = address if isinstance(address, str) else f"{address[0]}:{address[1]}"
        option = "--backdoor-socket" if is_path else "--backdoor-port"
        why = error.strerror or error
        raise CommandError(f"nothing answers at {where} ({why}); was the process started with {option}?") from error
    connection.settimeout(None)
    with connection:
        # A thread, since stdin may be a terminal, a pipe or a file.
        threading.Thread(target=_send_all, args=(connection,), daemon=True).start()
        while received := connection.recv(CHUNK):
            sys.stdout.write(received.decode("utf-8", "replace"))
            sys.stdout.flush()


def _unix_connection(path: str) -> Any:
    import socket

    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(10)
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def _send_all(connection: Any) -> None:
    import socket

    try:
        while typed := os.read(sys.stdin.fileno(), CHUNK):
            connection.sendall(typed)
        # The other side sees the end of its input, sends its last output and closes.
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # The other side has closed the connection; the reader notices that too.
