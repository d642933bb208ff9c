"""Where a web server listens, asked over IPv4 and IPv6."""

import os
import socket

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
def test_a_server_is_reached_by_the_kinds_of_address_that_it_listens_at(address, over_ipv4, over_ipv6):
    if not has_ipv6():
        say = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        say("THIS KERNEL HAS NO IPV6: the web server was not tested on it")
    server = listen(parse_address(address), reuse_port=False)
    port = server.getsockname()[1]

    try:
        assert (is_reached(V4, port), is_reached(V6, port)) == (over_ipv4, over_ipv6)
    finally:
        server.close()
