"""Which connections have shown no client for too long, by hand; and that one connection can be ended, with real sockets."""

import os
import socket
from contextlib import closing, contextmanager

import pytest

from discovery.accepted import LOG_INTERVAL, AcceptedConnections, EndReport, host_of, inode_of, shut_down


def overdue_of(connections):
    return [one.descriptor for one in connections.overdue()]


@pytest.fixture
def connections():
    """With looks once a second."""
    return AcceptedConnections(timeout=10.0, most=2)


def test_a_connection_without_a_client_is_overdue_after_the_timeout(connections):
    connections.accepted(7, 700)

    assert [overdue_of(connections) for _ in range(10)] == [[]] * 10
    assert overdue_of(connections) == [7]


def test_a_connection_of_a_client_is_never_overdue(connections):
    connections.accepted(7, 700)
    connections.show(7, "client")

    assert connections.silent == 0
    assert [overdue_of(connections) for _ in range(100)] == [[]] * 100


def test_a_client_that_is_none_any_more_has_the_whole_time_again(connections):
    connections.accepted(7, 700)
    for _ in range(9):
        connections.overdue()
    connections.show(7, "client")
    connections.hide("client")

    assert [overdue_of(connections) for _ in range(10)] == [[]] * 10
    assert overdue_of(connections) == [7]


def test_a_peer_that_is_heard_has_the_whole_time_again(connections):
    connections.accepted(7, 700)
    for _ in range(10):
        connections.overdue()
    connections.heard(7)

    assert [overdue_of(connections) for _ in range(10)] == [[]] * 10
    assert overdue_of(connections) == [7]


def test_beyond_the_bound_the_oldest_are_overdue_after_a_short_time(connections):
    for descriptor in (1, 2, 3, 4):
        connections.accepted(descriptor, descriptor)

    assert connections.is_crowded
    assert [overdue_of(connections) for _ in range(3)] == [[]] * 3
    assert overdue_of(connections) == [1, 2]


def test_what_has_ended_is_forgotten_and_its_client_is_told(connections):
    connections.accepted(7, 700)
    connections.accepted(8, 800)
    connections.show(8, "client")

    assert (connections.ended(7), connections.ended(8), connections.ended(9)) == (None, "client", None)
    assert len(connections) == connections.silent == 0
    connections.hide("client")
    assert connections.silent == 0


def test_a_number_that_comes_again_is_another_connection(connections):
    connections.accepted(7, 700)
    connections.show(7, "client")
    connections.accepted(7, 701)

    assert connections.silent == 1
    connections.hide("client")
    assert connections.silent == len(connections) == 1


def test_a_client_that_moved_leaves_its_former_connection_silent(connections):
    connections.accepted(7, 700)
    connections.accepted(8, 800)
    connections.show(7, "client")
    connections.show(8, "client")

    assert connections.silent == 1
    assert connections.ended(8) == "client"


def test_a_late_message_of_a_former_connection_is_of_no_use_to_the_next_one(connections):
    # The connection of "late" has ended, and another one has its number, when its last message is read.
    connections.accepted(7, 700)
    connections.ended(7)
    connections.accepted(7, 701)
    connections.show(7, "late")
    connections.hide("late")

    assert connections.silent == 1


def test_a_connection_whose_message_came_after_its_end_is_no_connection(connections):
    connections.show(7, "client")

    assert len(connections) == 0
    connections.accepted(7, 700)
    assert connections.silent == 1


@contextmanager
def connected():
    """The port, and both ends of a connection to it: that of the client, and the accepted one."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        with closing(socket.create_connection(listener.getsockname())) as client, closing(listener.accept()[0]) as accepted:
            client.settimeout(20)
            yield listener.getsockname()[1], client, accepted


def test_a_connection_is_shut_down_by_its_descriptor():
    with connected() as (port, client, accepted):
        before = len(os.listdir("/dev/fd"))

        assert shut_down(accepted.fileno(), inode_of(accepted.fileno()), port) == "127.0.0.1"
        assert client.recv(1) == b""
        assert accepted.recv(1) == b""
        assert len(os.listdir("/dev/fd")) == before


def test_no_other_file_is_shut_down_that_has_the_descriptor_meanwhile(tmp_path):
    with connected() as (port, client, accepted):
        inode = inode_of(accepted.fileno())

        assert shut_down(accepted.fileno(), inode + 1, port) is None
        assert shut_down(accepted.fileno(), inode, port + 1) is None
        with (tmp_path / "file").open("w") as file:
            assert shut_down(file.fileno(), inode, port) is None
            assert shut_down(file.fileno(), inode_of(file.fileno()), port) is None
        accepted.send(b"x")
        assert client.recv(1) == b"x"
        number = accepted.fileno()
        accepted.close()
        assert inode_of(number) is None
        assert shut_down(number, inode, port) is None


def test_the_host_of_a_connection_is_known_as_long_as_it_is_open():
    with connected() as (_, _, accepted):
        number = accepted.fileno()
        assert host_of(number) == "127.0.0.1"
        accepted.close()
        assert host_of(number) == "?"


def test_a_line_a_minute_tells_how_many_were_ended_and_whence_the_last_came():
    report = EndReport("tcp://10.0.0.1:4000", 30.0, "hello_timeout")

    assert report.ended("10.0.0.2", False, 100.0) == (
        "ended 1 connection(s) to tcp://10.0.0.1:4000 so far over which no valid greeting came within 30 s (hello_timeout); "
        "the last was from 10.0.0.2"
    )
    assert report.ended("10.0.0.3", False, 100.0 + LOG_INTERVAL - 1) == ""
    assert "ended 3 connection(s)" in (line := report.ended("10.0.0.4", True, 100.0 + LOG_INTERVAL))
    assert "while there were too many of them; the last was from 10.0.0.4" in line
