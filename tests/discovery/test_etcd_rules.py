"""Rules of the client of etcd that need no server: bodies of requests, and which lease is asked for."""

import pytest

from discovery.backends.etcd import requests
from discovery.backends.etcd.gateway import INVALID, NOT_FOUND, EtcdFailure
from discovery.backends.etcd.leases import EtcdLeases
from discovery.backends.etcd.requests import decoded, encoded, held_in, put_if_unchanged, read_below, transactions


def test_a_prefix_is_the_range_up_to_the_next_sibling():
    body = read_below("/shop/", 10)

    assert (decoded(body["key"]), decoded(body["range_end"]), body["limit"]) == (b"/shop/", b"/shop0", "10")
    assert "revision" not in body


def test_a_further_page_begins_after_the_last_key_at_the_same_revision():
    body = read_below("/shop/", 10, 7, after=b"/shop/a")

    assert (decoded(body["key"]), decoded(body["range_end"]), body["revision"]) == (b"/shop/a\0", b"/shop0", "7")


def test_many_operations_become_several_transactions_in_order(monkeypatch):
    monkeypatch.setattr(requests, "OPERATIONS", 2)

    assert list(transactions([{"n": 1}, {"n": 2}, {"n": 3}])) == [{"success": [{"n": 1}, {"n": 2}]}, {"success": [{"n": 3}]}]


def test_a_value_is_put_only_if_the_key_has_not_changed_since():
    body = put_if_unchanged("k", b"v", "7")

    assert body["compare"] == [{"key": encoded(b"k"), "target": "MOD", "result": "EQUAL", "mod_revision": "7"}]
    assert body["success"] == [{"request_put": {"key": encoded(b"k"), "value": encoded(b"v")}}]


@pytest.mark.parametrize(("found", "held"), [({}, None), ({"kvs": []}, None), ({"kvs": [{"key": "aw=="}]}, {"key": "aw=="})])
def test_the_conflicting_key_is_found(found, held):
    assert held_in({"responses": [{"response_range": found}]}) == held


class Gateway:
    """Grants leases of the seconds asked for, numbered; `alive` says for how long each is renewed."""

    def __init__(self):
        self.granted = []
        self.alive = {}

    def ask(self, path, body):
        if path == "/v3/lease/grant":
            self.granted.append(int(body["TTL"]))
            return {"ID": str(len(self.granted)), "TTL": body["TTL"]}
        assert path == "/v3/lease/keepalive"
        return {"result": {"TTL": self.alive.get(body["ID"], "10")}}


def test_records_of_one_ttl_share_a_lease():
    gateway, leases = Gateway(), EtcdLeases()

    used = [leases.under(gateway, seconds, lambda lease: lease) for seconds in (0.5, 1.0, 2.5, 3.0)]

    assert used == ["1", "1", "2", "2"]
    assert gateway.granted == [1, 3]
    assert leases.shortest() == 1.0


def test_an_expired_lease_is_requested_again():
    gateway, leases = Gateway(), EtcdLeases()

    def put(lease):
        if lease == "1":
            raise EtcdFailure(NOT_FOUND, "requested lease not found")
        return lease

    assert leases.under(gateway, 1.0, put) == "2"


def test_any_other_failure_is_not_tried_again():
    gateway, leases = Gateway(), EtcdLeases()

    def put(lease):
        raise EtcdFailure(INVALID, "etcdserver: too many operations")

    with pytest.raises(EtcdFailure, match="^too many operations$"):
        leases.under(gateway, 1.0, put)
    assert gateway.granted == [1]


def test_a_lease_that_the_server_forgot_is_lost_with_all_that_were_under_it():
    gateway, leases = Gateway(), EtcdLeases()
    for seconds, instance in ((1.0, "a"), (1.0, "b"), (9.0, "c")):
        leases.under(gateway, seconds, lambda lease: lease)
        leases.leased[instance] = int(seconds)
    gateway.alive["1"] = "0"

    assert leases.renew(gateway) == ["a", "b"]
    assert leases.id_for("a") == ""
    assert leases.id_for("c") == "2"
    assert leases.renew(gateway) == []
