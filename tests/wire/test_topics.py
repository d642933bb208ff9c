"""Patterns of event types: see also the vectors of the specification."""

import re

from hypothesis import given
from hypothesis import strategies as st

from zmqservices.wire.topics import compile

words = st.sampled_from(["a", "b", ""])
types = st.lists(words, min_size=1, max_size=5).map(".".join).filter(bool)
patterns = st.lists(words | st.sampled_from(["*", "#"]), min_size=1, max_size=5).map(".".join).filter(bool)


def by_regular_expression(pattern, event_type):
    """Each word and its dot as one piece; a dot is added to the end of both."""
    pieces = {"*": r"[^.]*\.", "#": r"([^.]*\.)*"}
    regex = "".join(pieces.get(word, re.escape(word) + r"\.") for word in pattern.split("."))
    return re.fullmatch(regex, event_type + ".") is not None


@given(patterns, types)
def test_a_pattern_matches_as_its_regular_expression_does(pattern, event_type):
    assert compile(pattern).matches(event_type) is by_regular_expression(pattern, event_type)


def test_a_pattern_made_to_take_long_does_not():
    assert not compile(".".join(["#", "a"] * 50)).matches(".".join(["a"] * 500 + ["b"]))


def test_a_pattern_shows_its_text():
    assert repr(compile("a.#")) == "compile('a.#')"
    assert compile("a.#").text == "a.#"
