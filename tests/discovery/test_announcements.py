"""Announced records and their acknowledgements by registries. The tests pass `now` themselves."""

import pytest

from discovery import DirectoryError, protocol
from discovery.client.announcements import Announcements, LeaseClaims
from tests.discovery.stage import record


def test_a_new_registry_gets_all_records():
    announced = Announcements()
    announced.announce(record("one"))
    announced.announce(record("two"))

    assert announced.messages("a") == [
        protocol.Register(1, record("one")),
        protocol.Register(2, record("two")),
    ]


def test_a_change_is_acknowledged_when_every_registry_has_done_so():
    announced = Announcements()
    announced.announce(record())
    (to_a,) = announced.messages("a")
    (to_b,) = announced.messages("b")

    announced.acknowledged("a", to_a.request)
    assert announced.is_acknowledged(["a"])
    assert not announced.is_acknowledged(["a", "b"])

    announced.acknowledged("b", to_b.request)
    assert announced.is_acknowledged(["a", "b"])


def test_an_acknowledgement_of_an_older_version_does_not_count():
    announced = Announcements()
    announced.announce(record(version=1))
    (old,) = announced.messages("a")
    announced.announce(record(version=2))
    (new,) = announced.messages("a")

    announced.acknowledged("a", old.request)
    assert not announced.is_acknowledged(["a"])

    announced.acknowledged("a", new.request)
    announced.acknowledged("a", old.request)
    assert announced.is_acknowledged(["a"])


def test_a_registry_that_comes_back_gets_all_records_again():
    announced = Announcements()
    announced.announce(record())
    (message,) = announced.messages("a")
    announced.acknowledged("a", message.request)

    announced.reset_acknowledgements("a")

    assert not announced.is_acknowledged(["a"])


def test_a_registry_learns_of_withdrawals_only_if_it_comes_soon_after_them():
    announced = Announcements()
    announced.announce(record(version=2))
    announced.withdraw(record(version=2), now=100.0)

    announced.drop_old_tombstones(now=159.0)
    assert announced.messages("a") == [protocol.Withdraw(1, "default", "one", 0, 2)]

    announced.drop_old_tombstones(now=161.0)
    assert announced.messages("a") == []


def test_a_withdrawal_is_not_forgotten_before_the_lease_of_the_record_can_have_run_out():
    announced = Announcements()
    announced.announce(record(version=2, ttl=100.0))
    announced.withdraw(record(version=2, ttl=100.0), now=0.0)

    announced.drop_old_tombstones(now=199.0)
    assert len(announced.messages("a")) == 1

    announced.drop_old_tombstones(now=201.0)
    assert announced.messages("a") == []


def test_only_announced_records_are_renewed():
    announced = Announcements()
    announced.announce(record("one", version=1))
    announced.announce(record("two"))
    announced.withdraw(record("two"), now=0.0)

    assert announced.renewals() == [protocol.Renew([["one", 0, 1]])]


def test_many_renewals_take_several_messages():
    announced = Announcements()
    for number in range(protocol.MAX_RENEWALS + 1):
        announced.announce(record(f"i{number}"))

    assert [len(message.leases) for message in announced.renewals()] == [protocol.MAX_RENEWALS, 1]


def test_the_shortest_ttl_sets_the_pace():
    announced = Announcements()
    announced.announce(record("one", ttl=30.0))
    announced.announce(record("two", ttl=1.0))

    assert announced.shortest_ttl() == 1.0


def test_the_same_record_again_is_no_change():
    claims = LeaseClaims()

    assert claims.announce(record())
    assert not claims.announce(record())


@pytest.mark.parametrize("is_withdrawn", [False, True])
def test_a_change_without_a_higher_version_is_refused_with_a_reason(is_withdrawn):
    claims = LeaseClaims()
    claims.announce(record(version=3))
    if is_withdrawn:
        claims.withdraw("one")

    with pytest.raises(DirectoryError, match="announced with version 3 and is now changed with version 3"):
        claims.announce(record(version=3, state="DRAINING"))
    assert claims.announce(record(version=4))


def test_a_withdrawal_of_an_unknown_record_has_no_effect():
    assert LeaseClaims().withdraw("nobody") is None
