"""Mistakes of callers and methods: each gets its error, and the service goes on."""

import time

import psutil
import pytest

from tests.system.processes import eventually
from zmqservices.exceptions import (
    IncorrectSignature,
    MessageTooLarge,
    MethodNotFound,
    RemoteError,
    RemoteUnavailable,
    UnknownService,
    UnserializableValueError,
)

MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def maths(lasting_cluster):
    return lasting_cluster.run_one("maths")


@pytest.fixture
def remote(lasting_cluster, maths):
    """A client; whatever was done with it, the service must serve on after the test."""
    with lasting_cluster.client(rpc_wait_for_service=0.5) as remote:
        # Half a second is short for a link on a busy machine.
        eventually(lambda: answers(remote), what="the link stands")
        yield remote
        assert remote.maths.add(2, 3) == 5


def answers(remote):
    try:
        return remote.maths.add(2, 3) == 5
    except RemoteUnavailable:
        return False


def rss(process):
    """Bytes that the process holds."""
    return psutil.Process(process.pid).memory_info().rss


def test_wrong_types_are_the_method_s_own_error(remote):
    with pytest.raises(RemoteError) as raised:
        remote.maths.add("two", 3)

    assert raised.value.exc_type == "TypeError"
    # Where it was raised travels too.
    assert "services/maths.py" in str(raised.value.__cause__)


@pytest.mark.parametrize(("args", "kwargs"), [((1,), {}), ((1, 2, 3), {}), ((1,), {"c": 2}), ((1, 2), {"a": 1})])
def test_wrong_arguments(remote, args, kwargs):
    with pytest.raises(IncorrectSignature) as raised:
        remote.maths.add(*args, **kwargs)

    assert "argument" in str(raised.value)


def test_an_unknown_method(remote):
    with pytest.raises(MethodNotFound, match="subtract"):
        remote.maths.subtract(3, 2)


def test_a_method_that_is_no_entrypoint_is_unknown(remote):
    with pytest.raises(MethodNotFound):
        remote.maths.inner()


def test_an_unknown_service_says_who_was_asked_in_time(lasting_cluster, remote):
    began = time.monotonic()
    with pytest.raises(UnknownService, match=f"no instance of 'nobody' is known; directory {lasting_cluster.url}"):
        remote.nobody.add(2, 3)

    # After `rpc_wait_for_service`, and long before the ten seconds of the call are over.
    assert 0.4 < time.monotonic() - began < 5.0


def test_an_argument_that_cannot_travel_is_the_caller_s_error(remote):
    with pytest.raises(UnserializableValueError, match="object object"):
        remote.maths.echo(object())


def test_a_result_that_cannot_travel_is_the_service_s_error(remote):
    with pytest.raises(RemoteError) as raised:
        remote.maths.something_unserializable()

    assert raised.value.exc_type == "UnserializableValueError"


def test_a_hundred_megabytes_are_refused_at_their_sender(remote, maths):
    before = rss(maths)

    with pytest.raises(MessageTooLarge, match="max_message_size is 67,108,864"):
        remote.maths.size(bytes(100 * MEGABYTE))
    with pytest.raises(RemoteError) as raised:
        remote.maths.bytes_of(100 * MEGABYTE)

    assert raised.value.exc_type == "MessageTooLarge"
    assert "max_message_size" in str(raised.value)
    assert rss(maths) - before < 20 * MEGABYTE


def test_a_hundred_megabytes_travel_where_they_are_allowed(cluster):
    maths = cluster.run_one("maths", max_message_size=128 * MEGABYTE)

    with cluster.client(timeout=30, max_message_size=128 * MEGABYTE) as remote:
        assert remote.maths.add(2, 3) == 5
        assert remote.maths.size(bytes(100 * MEGABYTE)) == 100 * MEGABYTE
        assert len(remote.maths.bytes_of(100 * MEGABYTE)) == 100 * MEGABYTE
        assert remote.maths.add(2, 3) == 5
    assert maths.is_running


def test_a_small_receiver_and_a_large_sender(lasting_cluster, maths, remote):
    # The sender may send what the receiver does not take: the link is lost, again and again, and says so.
    with lasting_cluster.client(timeout=5, max_message_size=128 * MEGABYTE) as large:
        with pytest.raises(Exception) as raised:
            large.maths.size(bytes(100 * MEGABYTE))
        assert type(raised.value).__module__ == "zmqservices.exceptions"
        assert large.maths.add(2, 3) == 5
