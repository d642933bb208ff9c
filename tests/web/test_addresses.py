"""A web server listens at its address over IPv4, IPv6 or both."""

import errno
import os
import socket
from contextlib import ExitStack, contextmanager

import pytest

from zmqservices.web.addresses import listen, parse_address

V4, V6 = "127.0.0.1", "::1"


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind((V6, 0))
    except OSError:
        return False
    return True


def is_reached(host, port):
    try:
        socket.create_connection((host, port), timeout=10).close()
    except ConnectionRefusedError:
        return False
    return True


@contextmanager
def listening(address, others):
    """The port of a server at `address` of which nobody else has the `others`, where it does not listen itself.

    A port is free for each family by itself, and many processes take ports while tests run.
    """
    while True:
        with ExitStack() as sockets:
            port = sockets.enter_context(listen(parse_address(address), reuse_port=False)).getsockname()[1]
            try:
                for family, host in others:
                    sockets.enter_context(socket.socket(family)).bind((host, port))
            except OSError as exc:
                if exc.errno != errno.EADDRINUSE:
                    raise
                continue
            yield port
            return


@pytest.mark.parametrize(
    "address, over_ipv4, over_ipv6",
    [
        ("0", True, False),
        ("0.0.0.0:0", True, False),
        ("127.0.0.1:0", True, False),
        ("*:0", True, True),
        ("[::]:0", True, True),
        ("[::1]:0", False, True),
    ],
)
def test_a_server_is_reached_over_the_address_families_that_it_listens_at(address, over_ipv4, over_ipv6):
    if not has_ipv6():
        say = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        say("THIS KERNEL HAS NO IPV6: the web server was not tested on it")
    others = [] if over_ipv4 else [(socket.AF_INET, V4)]
    if not over_ipv6:
        others.append((socket.AF_INET6, V6))

    with listening(address, others) as port:
        assert (is_reached(V4, port), is_reached(V6, port)) == (over_ipv4, over_ipv6)
