"""Every permission, granted and refused; patterns; the policy in addition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.security.permissions import Verb, allows, matches, may_call, may_register, may_serve
from discovery.security.signing import KeyPair
from tests.security.stage import certificate_of
from zmqservices.exceptions import ConfigurationError
from zmqservices.security.policy import Policy, parse

PAIR = KeyPair(b"p" * 32, b"k" * 32)


def holder(**permissions):
    return certificate_of(PAIR, **permissions)


@pytest.mark.parametrize("verb", Verb)
def test_each_verb_has_its_own_list_and_none_gives_another(verb):
    certificate = holder(**{verb.value: ("stock",)})

    assert allows(certificate, verb, "stock")
    assert not allows(certificate, verb, "users")
    assert [other for other in Verb if allows(certificate, other, "stock")] == [verb]


@pytest.mark.parametrize(
    "pattern, name, part, fits",
    [
        ("stock", "stock", "reserve", True),
        ("stock", "stock", "", True),
        ("stock.reserve", "stock", "reserve", True),
        ("stock.reserve", "stock", "delete", False),
        ("stock.reserve", "stock", "", False),
        ("stock.*", "stock", "reserve", True),
        ("stock.get_*", "stock", "get_one", True),
        ("stock.get_*", "stock", "set_one", False),
        ("st*k", "stock", "", True),
        ("*", "anything", "at_all", True),
        ("a*b*c", "a-b-c", "", True),
        ("a*b*c", "abc", "", True),
        ("a*b*c", "acb", "", False),
        ("ab*ba", "aba", "", False),
        ("stock", "stocks", "", False),
        ("stock", "Stock", "", False),
        (".*", "stock", "", False),
        ("sto?k", "stock", "", False),
    ],
)
def test_patterns(pattern, name, part, fits):
    assert matches(pattern, name, part) is fits


@given(st.text("ab*.", max_size=8), st.text("ab.", max_size=10))
def test_patterns_mean_what_a_regular_expression_would(pattern, text):
    import re

    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None

    assert matches(pattern, text) is expected


def test_all_calls_are_not_those_of_operators():
    assert not may_call(holder(calls=("*", "events:*")), "events:orders", "drop")
    assert may_call(holder(administers=("orders",)), "events:orders", "drop")
    assert may_call(holder(administers=("orders.stats",)), "events:orders", "stats")
    assert not may_call(holder(administers=("orders.stats",)), "events:orders", "drop")
    assert not may_call(holder(administers=("*",)), "orders", "place")


def test_all_calls_are_not_those_of_a_nodes_operators():
    assert not may_call(holder(calls=("*", "node:operators")), "node:operators", "stats")
    assert may_call(holder(administers=("node:operators",)), "node:operators", "stats")
    assert may_call(holder(administers=("node:operators.ping",)), "node:operators", "ping")
    assert not may_call(holder(administers=("node:operators.ping",)), "node:operators", "stats")
    assert not Policy().may_call(holder(calls=("*",)), "node:operators", "stats")
    assert Policy().may_call(holder(administers=("*",)), "node:operators", "stats")


def test_every_node_answers_for_itself():
    assert may_serve(holder(), "node:operators")
    assert not may_register(holder(registers=("orders",)), "node:operators")


def test_the_operators_service_belongs_to_those_who_publish():
    assert may_serve(holder(publishes=("orders",)), "events:orders")
    assert may_register(holder(publishes=("orders",)), "events:orders")
    assert not may_serve(holder(serves=("*",)), "events:orders")
    assert not may_register(holder(registers=("*",)), "events:orders")
    assert may_serve(holder(serves=("orders",)), "orders")
    assert may_register(holder(registers=("orders",)), "orders")
    assert not may_register(holder(serves=("orders",)), "orders")


def test_a_verdict_names_its_rule_or_what_was_asked():
    certificate = holder(calls=("stock.*",))

    assert allows(certificate, Verb.CALL, "stock", "reserve").rule == "its certificate a1 calls 'stock.*'"
    assert allows(certificate, Verb.CALL, "users", "get").rule == (
        "the certificate of 'orders' calls 'stock.*', and 'users.get' is not among that"
    )
    assert "publishes nothing" in allows(certificate, Verb.PUBLISH, "orders").rule


POLICY = parse(
    {
        "deny": [{"who": "orders", "calls": "stock.delete"}],
        "allow": [{"who": ["ord*", "users"], "calls": ["audit.*"], "handles": ["payments"], "administers": ["orders.stats"]}],
    },
    "/etc/policy.yaml",
)


def test_a_policy_denies_before_certificates_and_allows_after_them():
    certificate = holder(calls=("stock.*",))

    assert POLICY.may_call(certificate, "stock", "reserve").rule.startswith("its certificate")
    assert POLICY.may_call(certificate, "stock", "delete").rule == (
        "policy.yaml, deny 1: 'orders' is denied calls 'stock.delete'"
    )
    assert POLICY.may_call(certificate, "audit", "read").rule == "policy.yaml, allow 1: 'orders' is allowed calls 'audit.*'"
    assert POLICY.may_call(certificate, "events:orders", "stats")
    assert POLICY.allows(certificate, Verb.HANDLE, "payments", "made")


def test_what_no_rule_allows_is_forbidden():
    assert not POLICY.may_call(holder(name="stranger"), "audit", "read")
    assert not POLICY.may_call(holder(), "users", "get")
    assert "no rule of policy.yaml" in POLICY.may_call(holder(), "users", "get").rule
    assert not Policy().may_call(holder(), "users", "get")


@pytest.mark.parametrize(
    "found, text",
    [
        ([], r"is \[\]; a map with 'deny' and 'allow'"),
        ({"alow": []}, "has 'alow'; did you mean 'allow'?"),
        ({"allow": {"who": "x"}}, "allow is {'who': 'x'}; a list of rules"),
        ({"allow": ["x"]}, "allow 1 is 'x'; a map"),
        ({"allow": [{"who": "x"}]}, "allow 1 needs 'who' and one of calls"),
        ({"deny": [{"calls": "x"}]}, "deny 1 needs 'who'"),
        ({"deny": [{"who": "x", "call": "y"}]}, "deny 1 has 'call'; did you mean 'calls'?"),
        ({"deny": [{"who": "x", "calls": 3}]}, "calls of the policy, deny 1 is 3; a pattern"),
        ({"deny": [{"who": [], "calls": "x"}]}, r"who of the policy, deny 1 is \[\]"),
        ({"deny": [{"who": "x", "serves": "y"}]}, "deny 1 has 'serves'"),
    ],
)
def test_a_wrong_policy_is_an_error_that_quotes_it(found, text):
    with pytest.raises(ConfigurationError, match=text):
        parse(found)
