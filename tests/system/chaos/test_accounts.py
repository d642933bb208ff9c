"""The rules of chaos find every kind of fault."""

import json

import pytest

from tests.system.chaos.accounts import Account, Call, CallerFile, Span, faults_of


def call(kind="spend", ended=1.0, error="", retryable=False):
    return Call(7, kind, 0.0, ended, None if error else 4711, error, "", retryable)


def faults(call, executed=1, stalled=0.0, is_alone=False, was_killed=False):
    return list(faults_of(call, executed, stalled, is_alone, was_killed))


FINE = {
    "an answer": (call(), {}),
    "an idempotent call that was made again": (call("look"), {"executed": 2}),
    "one in doubt": (call(error="MaybeExecuted"), {}),
    "one that was refused before it ran": (call(error="Overloaded", retryable=True), {"executed": 0}),
    "a deadline shorter than a loss takes to be noticed": (call("brief", 0.45, "RpcTimeout"), {}),
    "no instance within reach": (call("look", error="UnknownService", retryable=True), {"executed": 0, "is_alone": True}),
    "late because the loop stood still": (call("brief", 0.9, "RpcTimeout"), {"stalled": 0.5}),
    "its caller was killed": (call(ended=None), {"was_killed": True}),
}

WRONG = {
    "ran 2 times": (call(), {"executed": 2}),
    "never ended": (call(ended=None), {}),
    "ended 0.50 s after": (call("brief", 0.9, "RpcTimeout"), {}),
    "answered, and never ran": (call(), {"executed": 0}),
    "though it is idempotent": (call("look", error="MaybeExecuted"), {}),
    "was not told": (call(error="RpcTimeout"), {}),
    "ended in Overloaded, and ran": (call(error="Overloaded", retryable=True), {}),
    "ended in ValueError": (call(error="ValueError"), {"executed": 0}),
}


@pytest.mark.parametrize("what", FINE)
def test_what_may_be_is_no_fault(what):
    one, circumstances = FINE[what]

    assert faults(one, **circumstances) == []


@pytest.mark.parametrize("what", WRONG)
def test_what_must_not_be_is_found(what):
    one, circumstances = WRONG[what]

    (found,) = faults(one, **circumstances)

    assert what in found


def test_every_call_of_a_span_is_counted(tmp_path):
    path = tmp_path / "caller"
    lines = [
        {"b": 1, "kind": "look", "at": 0.5}, {"e": 1, "at": 0.6, "pid": 5},
        {"b": 2, "kind": "spend", "at": 1.0}, {"b": 3, "kind": "spend", "at": 1.1}, {"b": 4, "kind": "brief", "at": 1.2},
        {"e": 2, "at": 1.1, "pid": 5}, {"s": 0.3, "at": 1.7},
        {"e": 4, "at": 1.9, "error": "RpcTimeout", "text": "too late", "retryable": False},
        {"b": 5, "kind": "look", "at": 3.0},
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"b": 6, "ki')
    file = CallerFile(path, 1)

    file.read_on()
    account = Account()
    account.add(file, Span(1.0, 2.0), {1: 1, 2: 1, 4: 1}, [])

    assert account.calls == 3
    assert account.outcomes == {"answered": 1, "in doubt": 1, "lost with its caller": 1}
    # Number 4 was 0.3 s late, and the loop stood still for 0.2 s of them.
    assert [fault.rpartition(": ")[2] for fault in account.faults] == ["never ended"]
    assert account.stalled == pytest.approx(0.3)


def test_where_no_call_may_fail_only_short_deadlines_are_forgiven(tmp_path):
    path = tmp_path / "caller"
    lines = [
        {"b": 1, "kind": "spend", "at": 1.0}, {"e": 1, "at": 1.1, "error": "MaybeExecuted", "text": "lost"},
        {"b": 2, "kind": "brief", "at": 1.0}, {"e": 2, "at": 1.4, "error": "RpcTimeout", "text": "too late"},
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    file = CallerFile(path, 1)
    file.read_on()
    calm, troubled = Account(), Account()

    calm.add(file, Span(0.0, 2.0), {1: 1, 2: 1}, [], may_fail=False)
    troubled.add(file, Span(0.0, 2.0), {1: 1, 2: 1}, [])

    assert [fault.rpartition(": ")[2] for fault in calm.faults] == ["failed where no call may"]
    assert troubled.faults == []
