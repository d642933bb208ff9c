import pytest

from zmqservices.exceptions import MethodNotFound
from zmqservices.utils.near_names import LONGEST, SHARE, NearNames, no_such_method


@pytest.fixture
def clock():
    """[now, processor time that one guess takes, processor time so far]"""
    return [100.0, 0.0, 0.0]


@pytest.fixture
def names(clock):
    def work():
        clock[2] += clock[1]
        return clock[2]

    return NearNames(lambda: clock[0], work)


def test_the_nearest_name_is_guessed(names):
    assert names.guess("ad", ["add", "echo"]) == "add"


def test_a_name_that_is_far_from_all_has_no_guess(names):
    assert names.guess("xyz", ["add", "echo"]) is None


def test_guesses_end_when_they_have_taken_their_share(names, clock):
    clock[1] = SHARE / 3
    assert [names.guess("ad", ["add"]) for _ in range(5)] == ["add", "add", "add", None, None]

    clock[0] += 1.0
    assert names.guess("ad", ["add"]) == "add"


def test_a_name_that_is_longer_than_any_is_not_looked_for(names):
    long = "x" * LONGEST
    assert names.guess(long, [long]) == long
    assert names.guess(long + "x", [long]) is None


def test_a_method_that_is_nearly_there_is_named():
    exc = no_such_method("maths", "hello", ["helo", "add"])

    assert isinstance(exc, MethodNotFound)
    assert str(exc) == "the service 'maths' has no method 'hello'; did you mean 'helo'?"
    assert str(no_such_method("maths", "xyz", ["b", "a"])) == "the service 'maths' has no method 'xyz'; it has a, b"
    assert str(no_such_method("maths", "xyz", [])).endswith("it has none")
    assert len(str(no_such_method("maths", "x" * 10_000, [f"m{n}" for n in range(1000)]))) < 250
