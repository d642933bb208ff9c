"""`zmqservices backdoor`: a Python prompt inside a running process.

Every client can do everything that the process can do. So the process listens on loopback only, and only when it was started
with --backdoor-port.
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
#: Bytes that are read at once.
CHUNK = 65536


def setup_backdoor(runner: ServiceRunner, port: int) -> Any:
    """Listen on loopback, and give each client a Python prompt with `runner`. Returns the server.

    Port 0 means any free port. The port is printed on stderr. Raises ConfigurationError when the port is in use.
    """
    from gevent.backdoor import BackdoorServer

    server = BackdoorServer(_listener(port), locals={"runner": runner}, banner=BANNER)
    server.start()
    click.echo("The backdoor lets every user of this host run code in this process", err=True)
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


@click.command("backdoor")
@click.argument("target", metavar="[HOST:]PORT")
@click.option(
    "--rlwrap/--no-rlwrap",
    default=None,
    help="Edit lines with the program rlwrap. [default: if there is one]",
)
def backdoor_command(target: str, rlwrap: bool | None) -> None:
    """Open a Python prompt inside a process that was run with --backdoor-port.

    \b
    Example:
        zmqservices run helloworld --backdoor-port 3000
        zmqservices backdoor 3000
    """
    host, port = parse_target(target)
    program = shutil.which("rlwrap")
    if rlwrap and not program:
        raise CommandError("there is no program 'rlwrap' here; say --no-rlwrap, or install it")
    if program and (rlwrap or (rlwrap is None and sys.stdin.isatty())):
        again = [sys.executable, "-m", "zmqservices", "backdoor", "--no-rlwrap", f"{host}:{port}"]
        os.execv(program, [program, *again])
    talk(host, port)


def parse_target(target: str) -> tuple[str, int]:
    """Host and port of `[HOST:]PORT`. Raises CommandError for anything else."""
    host, _, port = target.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise CommandError(f"{target!r} is no [HOST:]PORT, such as 3000 or 127.0.0.1:3000")
    return host.strip("[]") or LOOPBACK, int(port)


def talk(host: str, port: int) -> None:
    """Pass lines from stdin to a backdoor and its answers to stdout, until the other side ends."""
    import socket
    import threading

    try:
        connection = socket.create_connection((host, port), timeout=10)
    except OSError as error:
        reason = error.strerror or error
        raise CommandError(f"nothing answers at {host}:{port} ({reason}); was --backdoor-port given?") from error
    connection.settimeout(None)
    with connection:
        # A thread, since stdin may be a terminal, a pipe or a file.
        threading.Thread(target=_send_all, args=(connection,), daemon=True).start()
        while received := connection.recv(CHUNK):
            sys.stdout.write(received.decode("utf-8", "replace"))
            sys.stdout.flush()


def _send_all(connection: Any) -> None:
    import socket

    try:
        while typed := os.read(sys.stdin.fileno(), CHUNK):
            connection.sendall(typed)
        # The other side sees the end of its input, sends its last output and closes.
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # The other side has closed, which the reader notices too.
