"""Registered exceptions are rebuilt from their arguments and attributes, whatever their constructors take."""

import datetime
from decimal import Decimal

from zmqservices.exceptions import (
    BadRequest,
    RemoteError,
    deserialize,
    serialize,
)
from zmqservices.wire import codec


def travelled(exc):
    """The exception, once it has been over the wire."""
    return deserialize(codec.unpack(codec.pack(serialize(exc))))


def test_a_constructor_that_takes_other_arguments_is_not_needed(register):
    @register
    class OutOfStock(Exception):
        def __init__(self, *, item, left):
            super().__init__(f"only {left} of {item} are left")
            self.item, self.left = item, left

    exc = travelled(OutOfStock(item="tea", left=3))

    assert type(exc) is OutOfStock
    assert str(exc) == "only 3 of tea are left"
    assert (exc.item, exc.left) == ("tea", 3)


def test_a_constructor_that_would_take_the_text_for_its_argument_is_not_called(register):
    @register
    class Coded(Exception):
        def __init__(self, code):
            super().__init__(f"code {code}")
            self.code = code

    exc = travelled(Coded(7))

    assert (str(exc), exc.code) == ("code 7", 7)


def test_attributes_keep_their_types_where_these_travel_and_are_texts_where_not(register):
    @register
    class Laden(Exception):
        def __init__(self, **attributes):
            super().__init__("laden")
            vars(self).update(attributes)

    def once():
        yield 1

    kept = {"a": None, "b": [1, 2.5, (b"x", {"k"})], "c": Decimal("1.5"), "d": datetime.date(2026, 1, 2), "e": {1: "one"}}
    iterator = once()
    nested = []
    nested.append(nested)

    exc = travelled(Laden(**kept, iterator=iterator, huge=2**80, nested=nested))

    assert {name: vars(exc)[name] for name in kept} == kept
    assert exc.iterator == str(iterator) and next(iterator) == 1
    assert exc.huge == str(2**80)
    assert isinstance(exc.nested, list)


def test_what_the_builtin_base_makes_of_its_arguments_is_there(register):
    @register
    class Missing(KeyError):
        def __init__(self, key, where):
            super().__init__(key)
            self.where = where

    @register
    class Denied(OSError):
        def __init__(self, path):
            super().__init__(f"no right to {path}")
            self.path = path

    assert travelled(Missing("a", "here")).args == ("a",)
    assert travelled(Denied("/x")).path == "/x"


def test_a_peer_cannot_set_what_python_itself_reads(register):
    @register
    class Own(Exception):
        def __init__(self):
            super().__init__("own")

    error = serialize(Own())
    error["exc_state"] = {"__class__": "x", "__dict__": {}, 5: "five", "fine": 1}
    exc = deserialize(error)

    assert vars(exc) == {"fine": 1}


def test_without_attributes_the_constructor_has_to_take_the_arguments(register):
    class Coded(Exception):
        def __init__(self, *, code):
            super().__init__(f"code {code}")

    error = serialize(Coded(code=7))
    register(Coded)

    assert "exc_state" not in error
    assert isinstance(deserialize(error), RemoteError)


def test_errors_without_a_constructor_of_their_own_travel_as_before():
    assert "exc_state" not in serialize(BadRequest("no"))
