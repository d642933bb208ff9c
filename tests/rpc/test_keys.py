"""Calls with a key, between real services."""

import pytest

from tests.stage import linked
from zmqservices.exceptions import ConfigurationError
from zmqservices.rpc import rpc


def carts():
    class Carts:
        name = "carts"

        @rpc(key="user")
        def add(self, item, user):
            return id(type(self))

        @rpc
        def plain(self):
            return id(type(self))

    return Carts


def test_a_declared_key_and_a_given_key_lead_to_one_instance(serve, connect):
    for number in range(3):
        serve(carts(), HEARTBEAT=2.0 + number)  # Other settings: a node of its own.
    proxy = linked(connect().carts, "plain")

    by_user = {user: {proxy.add("x", user), proxy.add("y", user=str(user)), proxy.plain.with_key(user)()} for user in range(30)}

    assert all(len(instances) == 1 for instances in by_user.values())
    assert len({instance for instances in by_user.values() for instance in instances}) == 3


def test_a_key_and_a_timeout_go_together(serve, connect):
    serve(carts())
    method = connect().carts.plain

    assert method.with_key("k").with_timeout(5)() == method.with_timeout(5).with_key("k")()
    assert method.with_key("k").call_async().result() == method()


def test_a_value_that_is_no_key_is_refused(connect):
    with pytest.raises(TypeError, match=r"a key is \['a'\]; a text, bytes, a number or a UUID is needed"):
        connect().carts.plain.with_key(["a"])


def test_a_key_that_names_no_argument_is_refused_at_the_start(serve):
    class Wrong:
        name = "wrong"

        @rpc(key="usr")
        def add(self, item, user):
            """Never called."""

    with pytest.raises(ConfigurationError, match="it has no argument of that name; its arguments are item, user"):
        serve(Wrong)


def test_a_key_that_is_no_name_is_refused():
    with pytest.raises(ConfigurationError, match=r"@rpc\(key=5\): the name of an argument is needed"):
        rpc(key=5)(lambda self: None)
