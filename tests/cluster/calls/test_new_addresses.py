"""An instance whose record has a new address, for example after a new DHCP lease or a move of its container."""

import dataclasses

import pytest

from tests.cluster.calls.world import Calling
from zmqservices.cluster.calls.call import HELD, SENT
from zmqservices.exceptions import MaybeExecuted
from zmqservices.wire.messages import Call


@pytest.fixture
def calling():
    return Calling()


def move(calling, endpoint):
    """The only record names another address. Returns the link there, if one was made."""
    (record,) = calling.directory.records
    calling.directory.records = [dataclasses.replace(record, version=record.version + 1, endpoints={"rpc": endpoint})]
    calling.caller.update()
    return calling.links.get(endpoint)


def test_an_open_link_is_used_whatever_the_record_says(calling):
    link = calling.add_instance("one")

    assert move(calling, "tcp://two:1") is None

    assert calling.begin().stage == SENT
    assert len(link.said(Call)) == 1


def test_after_a_lost_link_the_caller_connects_to_the_new_address(calling):
    link = calling.add_instance("one")
    move(calling, "tcp://two:1")
    call = calling.begin()

    link.listener.on_disconnect()
    calling.reactor.turn()

    with pytest.raises(MaybeExecuted):
        call.outcome()
    assert link.is_closed
    later = calling.begin()
    assert later.stage == HELD
    calling.links["tcp://two:1"].greet()
    assert later.stage == SENT


def test_an_idempotent_call_moves_with_its_instance(calling):
    link = calling.add_instance("one", add={"idempotent": True})
    move(calling, "tcp://two:1")
    call = calling.begin()

    link.listener.on_disconnect()
    calling.links["tcp://two:1"].greet()
    calling.reactor.wind(1.0)
    (sent,) = calling.links["tcp://two:1"].said(Call)
    calling.links["tcp://two:1"].answer(sent, 5)

    assert call.outcome() == 5


def test_a_link_that_never_opened_is_replaced_at_once(calling):
    link = calling.add_instance("one", is_greeted=False)
    call = calling.begin()

    move(calling, "tcp://two:1").greet()

    assert link.is_closed
    assert call.stage == SENT
