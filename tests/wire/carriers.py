"""Messages with a value that travels in a frame of its own, in each place where one may stand."""

from zmqservices.wire.messages import Call, Event, Result, Stream
from zmqservices.wire.payloads import LARGE

BIG = b"x" * LARGE

CARRIERS = [
    Call(1, "a", "b", [BIG]),
    Call(1, "a", "b", [1, BIG, BIG], {"c": BIG}, 1.0, {"d": "e"}),
    Call(1, "a", "b", [], {"c": 1, "d": BIG}),
    Call(1, "a", "b", BIG, None, None, None, "json"),
    Result(1, BIG),
    Result(1, BIG, "json"),
    Stream(1, 2, BIG),
    Event("j", 1, 0, "a", "b", BIG, headers={"c": "d"}),
]
