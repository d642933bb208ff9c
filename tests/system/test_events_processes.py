"""Processes that publish and handle are killed, frozen and restarted under load; every event is counted at both ends."""

from __future__ import annotations

import itertools

import pytest

from tests.system.processes import eventually

#: Events of a scenario: enough that whatever happens finds some under way. Divisible by 20.
MANY = 2_400

#: Events that one member may have in hand of one journal: its workers.
IN_HAND = 10


@pytest.fixture
def cluster(event_cluster):
    return event_cluster


def publish(cluster, count=MANY, first=0, **options):
    with cluster.client(timeout=60) as remote:
        remote.orders.publish(first, count, **options)


def publish_until_handled_by(cluster, tallies, first, *members):
    """How many events it takes until all of them have come (back) is not known; a hundred at a time, from `first` on."""
    firsts = itertools.count(first, 100)
    missing = {member.pid for member in members}

    def all_have_their_share() -> bool:
        first = next(firsts)
        publish(cluster, 100, first=first)
        tallies.wait_until_handled()
        missing.difference_update(pid for number, pid in tallies.lines("handled") if number >= first)
        return not missing

    eventually(all_have_their_share, what="all of these members handle events")


def test_nothing_is_lost_and_nothing_comes_twice_while_nothing_happens(cluster, tallies):
    _, *members = cluster.run_all("orders", "mails", "mails")
    # That both are listed does not say that they know of the publisher yet.
    publish_until_handled_by(cluster, tallies, 1_000_000, *members)

    publish(cluster)

    tallies.wait_until_handled(MANY)
    assert not tallies.duplicates()
    assert {pid for number, pid in tallies.lines("handled") if number < MANY} == {member.pid for member in members}


def test_a_publisher_that_is_killed_again_and_again_loses_nothing(cluster, tallies):
    cluster.run("mails", count=2)

    firsts = itertools.count(0, 1_000_000)
    kills = 4
    for kill in range(1, kills + 1):
        publisher = cluster.run_one("orders")
        with cluster.client(DIRECTORY=cluster.only("orders", publisher)) as remote:
            remote.orders.publish_forever(next(firsts), 1)
        # Between append and send, between send and ack: at this rate each kill hits all of them.
        tallies.wait_for("dispatched", kill * MANY // kills)
        publisher.kill()
        publisher.wait()
    cluster.run_one("orders")

    tallies.wait_until_handled(MANY)
    # What was answered and not written down yet comes again: 50 ms of answers, and what was in hand.
    assert len(tallies.duplicates()) < kills * 2000
    assert max(tallies.duplicates().values(), default=1) <= kills


def test_members_that_are_killed_lose_nothing(cluster, tallies):
    _, *members = cluster.run_all("orders", *["mails"] * 3, TEST_PAUSE=0.001)

    with cluster.client(timeout=60) as remote:
        call = remote.orders.publish.call_async(0, MANY)
        for share, member in enumerate(members[:2], 1):
            tallies.wait_for("handled", share * MANY // 5)
            member.kill()
            member.wait()
            cluster.run("mails", TEST_PAUSE=0.001)
        call.result()

    tallies.wait_until_handled(MANY)
    # Those that it had in hand: begun or not, handled or not, their answers did not arrive.
    assert len(tallies.duplicates()) <= 2 * IN_HAND


def test_a_frozen_member_keeps_nobody_waiting_and_its_late_answers_do_no_harm(cluster, tallies):
    _, frozen, *_ = cluster.run_all("orders", *["mails"] * 3, TEST_PAUSE=0.001)

    with cluster.client(timeout=60) as remote:
        call = remote.orders.publish.call_async(0, MANY)
        tallies.wait_for("handled", MANY // 5)
        frozen.freeze()
        call.result()
        tallies.wait_until_handled(MANY)
        frozen.thaw()

    # Its link was given up meanwhile.
    publish_until_handled_by(cluster, tallies, MANY, frozen)
    assert len(tallies.duplicates()) <= IN_HAND


def test_events_wait_while_all_members_are_away(cluster, tallies):
    _, *members = cluster.run_all("orders", "mails", "mails")
    with cluster.client(timeout=60) as remote:
        call = remote.orders.publish.call_async(0, MANY)
        tallies.wait_for("handled", MANY // 5)
        for member in members:
            member.terminate()
        for member in members:
            assert member.wait() == 0
        call.result()
        # On a busy machine all others may be handled already.
        remote.orders.publish(MANY, 100)
    assert tallies.missing()

    cluster.run("mails", count=2)

    tallies.wait_until_handled(MANY + 100)
    assert not tallies.duplicates(), "a graceful stop answers all that it has"


def test_all_publishers_are_restarted_on_other_ports(cluster, tallies):
    *publishers, _, _ = cluster.run_all("orders", "orders", "mails", "mails", TEST_PAUSE=0.2)
    events = 500

    with cluster.client(timeout=60) as remote:
        # A hundred are handled each second, and many more are published: something is left when they go.
        for first in (0, events // 2):
            remote.orders.publish(first, events // 2)
    for publisher in publishers:
        publisher.terminate()
    for publisher in publishers:
        assert publisher.wait() == 0
    assert tallies.missing()
    cluster.run("orders", count=2)

    tallies.wait_until_handled(events)
    assert not tallies.duplicates(), "members answer what they have before a publisher is gone"


def test_a_slow_member_gets_less_and_the_others_do_not_wait_for_it(cluster, tallies):
    slow = cluster.launch("mails", TEST_PAUSE=0.5)
    _, *fast = cluster.run_all("orders", "mails", "mails")
    cluster.wait_listed("mails", slow)
    publish_until_handled_by(cluster, tallies, 1_000_000, slow, *fast)

    publish(cluster)

    tallies.wait_until_handled(MANY)
    assert not tallies.duplicates()
    by_slow = [number for number, pid in tallies.lines("handled") if pid == slow.pid and number < MANY]
    # An even share is a third.
    assert 0 < len(by_slow) < MANY // 6


def test_events_that_always_fail_are_given_up_and_the_rest_flows(cluster, tallies):
    cluster.run_all("orders", "mails", "mails")

    with cluster.client(timeout=60) as remote:
        remote.orders.publish(-5, 5)
        remote.orders.publish(0, MANY)
        eventually(lambda: tallies.missing() == {-5, -4, -3, -2, -1}, what="all others are handled")
        admin = remote["events:orders"]
        eventually(lambda: len(admin.dead_letters()) == 5)

    began = tallies.numbers("began")
    assert all(began.count(number) == 3 for number in range(-5, 0))
    assert not tallies.duplicates()


def test_the_registry_may_be_down_throughout(cluster, tallies):
    publisher, *members = cluster.run_all("orders", "mails", "mails")
    # That both are listed does not say that they know of the publisher yet, and from here on nobody tells them.
    publish_until_handled_by(cluster, tallies, 1_000_000, *members)
    before = len(tallies.lines("handled"))
    [registry] = cluster.registries
    registry.kill()
    registry.wait()

    with cluster.client(timeout=60, DIRECTORY=cluster.only("orders", publisher)) as remote:
        call = remote.orders.publish.call_async(0, MANY)
        tallies.wait_for("handled", before + MANY // 5)
        members[0].kill()
        call.result()

    tallies.wait_until_handled(before + MANY)
    assert len(tallies.duplicates()) <= IN_HAND


def test_what_killed_publishers_left_is_delivered_by_the_one_that_stays(cluster, tallies):
    # A member that was there once, so that there is a group to keep events for.
    member, *publishers = cluster.run_all("mails", *["orders"] * 3)
    member.terminate()
    member.wait()
    cluster.wait_unlisted("mails", member.pid)
    for number, publisher in enumerate(publishers):
        with cluster.client(timeout=60, DIRECTORY=cluster.only("orders", publisher)) as remote:
            remote.orders.publish(number * MANY, MANY // 3 + 1)
    for publisher in publishers[1:]:
        publisher.kill()
        publisher.wait()

    cluster.run("mails", count=2)

    tallies.wait_until_handled(MANY)
    assert not tallies.duplicates()
    publishers[0].has_said("adopted")


def test_a_relay_delivers_what_a_service_left_that_does_not_return(cluster, tallies, tmp_path):
    member, publisher = cluster.run_all("mails", "orders")
    member.terminate()
    member.wait()
    cluster.wait_unlisted("mails", member.pid)
    publish(cluster)
    publisher.kill()
    publisher.wait()
    cluster.run("mails", count=2)

    relay = cluster.command("relay", str(tmp_path / "journals" / cluster.namespace), "--once")

    tallies.wait_until_handled(MANY)
    assert not tallies.duplicates()
    assert relay.wait() == 0
