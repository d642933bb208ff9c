"""Whose a duty is, as a function of what a directory lists."""

from discovery.model import Record, Seen
from zmqservices.cluster.leadership import duties_of, holder, with_duties


def listed(instance, incarnation, *duties, state="UP", suspect=False):
    tags = with_duties({}, duties)
    return Seen(Record("clock", instance, incarnation=incarnation, state=state, tags=tags), suspect=suspect)


def test_the_eldest_has_it():
    assert holder([listed("b", 2, "tick"), listed("a", 3, "tick"), listed("c", 1, "tick")], "tick") == "c"


def test_of_twins_the_one_with_the_lower_id_has_it():
    assert holder([listed("b", 1, "tick"), listed("a", 1, "tick")], "tick") == "a"


def test_one_that_does_not_stand_ready_has_none():
    assert holder([listed("old", 1), listed("other", 2, "tock"), listed("new", 3, "tick")], "tick") == "new"


def test_nobody_ready_is_nobody():
    assert holder([listed("a", 1)], "tick") is None


def test_a_lease_that_ran_out_does_not_count():
    assert holder([listed("dead", 1, "tick", suspect=True), listed("alive", 2, "tick")], "tick") == "alive"


def test_one_that_drains_keeps_it_until_it_gives_it_up():
    assert holder([listed("old", 1, "tick", state="DRAINING"), listed("new", 2, "tick")], "tick") == "old"


def test_other_tags_are_left_as_they_are():
    tags = with_duties({"zone": "b", "duties": ["x"]}, ["tock", "tick"])

    assert tags == {"zone": "b", "duties": ["tick", "tock"]}
    assert with_duties(tags, []) == {"zone": "b"}


def test_junk_from_a_peer_is_no_duty():
    assert duties_of(Record("clock", "a", tags={"duties": 7})) == []
