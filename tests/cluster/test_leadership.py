"""Which instance leads, as a function of the records in the directory."""

from discovery.model import Record, Seen
from zmqservices.cluster.leadership import candidacies_of, leader, with_candidacies


def listed(instance, incarnation, *candidacies, state="UP", suspect=False):
    tags = with_candidacies({}, candidacies)
    return Seen(Record("clock", instance, incarnation=incarnation, state=state, tags=tags), suspect=suspect)


def test_the_eldest_candidate_leads():
    assert leader([listed("b", 2, "tick"), listed("a", 3, "tick"), listed("c", 1, "tick")], "tick") == "c"


def test_the_lower_id_leads_among_candidates_of_one_age():
    assert leader([listed("b", 1, "tick"), listed("a", 1, "tick")], "tick") == "a"


def test_an_instance_that_is_no_candidate_does_not_lead():
    assert leader([listed("old", 1), listed("other", 2, "tock"), listed("new", 3, "tick")], "tick") == "new"


def test_without_a_candidate_there_is_no_leader():
    assert leader([listed("a", 1)], "tick") is None


def test_a_lease_that_ran_out_does_not_count():
    assert leader([listed("dead", 1, "tick", suspect=True), listed("alive", 2, "tick")], "tick") == "alive"


def test_an_instance_that_drains_leads_until_it_resigns():
    assert leader([listed("old", 1, "tick", state="DRAINING"), listed("new", 2, "tick")], "tick") == "old"


def test_other_tags_are_not_changed():
    tags = with_candidacies({"zone": "b", "duties": ["x"]}, ["tock", "tick"])

    assert tags == {"zone": "b", "duties": ["tick", "tock"]}
    assert with_candidacies(tags, []) == {"zone": "b"}


def test_junk_from_a_peer_is_no_candidacy():
    assert candidacies_of(Record("clock", "a", tags={"duties": 7})) == []
