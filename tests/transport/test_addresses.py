"""Where to bind and what to tell others: IPv4, IPv6, both, scope ids, and names that have addresses of either kind."""

import os
import socket

import pytest
import zmq

from zmqservices.exceptions import ConfigurationError
from zmqservices.transport import addresses
from zmqservices.transport.sockets import SocketOptions, Sockets, bind, connect


@pytest.mark.parametrize(
    "address, bindable",
    [
        ("tcp://127.0.0.1:0", "tcp://127.0.0.1:0"),
        ("tcp://[::1]:0", "tcp://[::1]:0"),
        ("[fd00::5]:4000", "tcp://[fd00::5]:4000"),
        ("tcp://[FD00:0::5]:4000", "tcp://[fd00::5]:4000"),
        ("tcp://[fe80::1%eth0]:0", "tcp://[fe80::1%eth0]:0"),
        ("tcp://[::ffff:10.0.0.5]:0", "tcp://10.0.0.5:0"),
        ("tcp://*:4000", "tcp://*:4000"),
        ("tcp://0.0.0.0:4000", "tcp://0.0.0.0:4000"),
        ("tcp://[::]:4000", "tcp://[::]:4000"),
    ],
)
def test_an_address_is_bound_as_it_is_meant(address, bindable):
    assert addresses.bindable(address) == bindable


@pytest.mark.parametrize("address", ["tcp://fd00::5:0", "fd00::5", "tcp://[fd00::5]", "tcp://[fd00::5:0", "udp://[::1]:0"])
def test_an_address_that_is_none_is_told_with_the_brackets_of_ipv6(address):
    with pytest.raises(ConfigurationError, match=r"BIND_ADDRESS is .* IPv6 address in brackets"):
        addresses.bindable(address)


@pytest.mark.parametrize(
    "address, ipv6",
    [("tcp://10.0.0.5:1", False), ("tcp://0.0.0.0:1", False),
     ("tcp://[::1]:1", True), ("tcp://[::]:1", True), ("tcp://*:1", True)],  # fmt: skip
)
def test_a_socket_speaks_ipv6_where_its_address_needs_it(address, ipv6):
    assert addresses.needs_ipv6(address) is ipv6


@pytest.mark.parametrize(
    "host, words",
    [("fe80::1%eth0", "other hosts cannot use"), ("fe80::1", "other hosts cannot use"), ("*", "others need one of them"),
     ("0.0.0.0", "others need one of them"), ("::", "others need one of them")],
)  # fmt: skip
def test_what_means_nothing_to_other_hosts_is_not_advertised(host, words):
    with pytest.raises(ConfigurationError, match=words):
        addresses.advertisable(host, 4000, "ADVERTISE_ADDRESS")


@pytest.mark.parametrize("host, told", [("10.0.0.5", "tcp://10.0.0.5:4000"), ("fd00::5", "tcp://[fd00::5]:4000")])
def test_what_others_can_use_is_advertised(host, told):
    assert addresses.advertisable(host, 4000, "ADVERTISE_ADDRESS") == told


def named(*ips):
    return lambda *_, **__: [
        (socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 0)) for ip in ips
    ]


@pytest.mark.parametrize(
    "ips, first",
    [(["fd00::5", "10.0.0.5"], "10.0.0.5"), (["10.0.0.5", "fd00::5"], "10.0.0.5"), (["fd00::5"], "fd00::5")],
)
def test_a_name_is_its_ipv4_address_where_it_has_one(ips, first, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", named(*ips))

    assert addresses.resolve("registry.example") == first


def test_the_source_address_is_of_the_first_address_that_has_a_route(monkeypatch):
    # The first one is a broadcast address, to which no socket connects unasked.
    monkeypatch.setattr(socket, "getaddrinfo", named("255.255.255.255", "127.0.0.1"))

    assert addresses.source_address("registry.example", 4190) == "127.0.0.1"


def test_a_socket_of_ipv4_alone_is_never_given_an_ipv6_source(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", named("::1"))

    assert addresses.source_address("registry.example", 4190, ipv4_alone=True) is None


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    "bound, reached",
    [("127.0.0.1", ["127.0.0.1"]), ("[::1]", ["[::1]"]), ("*", ["127.0.0.1", "[::1]"]), ("[::]", ["127.0.0.1", "[::1]"]),
     ("0.0.0.0", ["127.0.0.1"])],
)  # fmt: skip
def test_a_bound_socket_is_reached_by_the_kinds_of_address_that_it_stands_for(bound, reached):
    if "[" in bound + "".join(reached) and not has_ipv6():
        say = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        say("THIS KERNEL HAS NO IPV6: only the rules above were tested, no socket")
    sockets = Sockets(SocketOptions())
    made = []
    try:
        made.append(router := sockets.router())
        bind(router, f"tcp://{bound}:0")
        port = addresses.parse(router.get(zmq.LAST_ENDPOINT).rstrip(b"\0").decode())[1]
        for host in reached:
            made.append(dealer := sockets.dealer())
            connect(dealer, f"tcp://{host}:{port}")
            assert dealer.poll(10_000, zmq.POLLOUT), f"{host} does not reach {bound}"
    finally:
        for made_socket in made:
            made_socket.close(linger=0)
        sockets.close()
