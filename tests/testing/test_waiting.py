"""Waiting for a call of any object's method."""

import gevent
import pytest

from zmqservices.testing.waiting import WaitResult, wait_for_call


class Courier:
    def deliver(self, parcel, tip=0):
        if parcel is None:
            raise ValueError("nothing to deliver")
        return f"{parcel} delivered"


def test_the_block_is_left_when_the_method_was_called():
    courier = Courier()

    with wait_for_call(courier, "deliver") as result:
        gevent.spawn(courier.deliver, "tea")
        assert not result.has_result

    assert result.get() == "tea delivered"


def test_a_class_may_be_watched_instead_of_an_object():
    with wait_for_call(Courier, "deliver") as result:
        gevent.spawn(Courier().deliver, "tea", tip=1)

    assert result.get() == "tea delivered"


def test_an_error_is_the_result_and_reaches_the_caller():
    courier = Courier()

    with wait_for_call(courier, "deliver") as result:
        with pytest.raises(ValueError, match="nothing to deliver"):
            courier.deliver(None)

    with pytest.raises(ValueError, match="nothing to deliver"):
        result.get()


def test_a_callback_chooses_the_call():
    courier, seen = Courier(), []

    def callback(args, kwargs, result, exc_info):
        seen.append((args, kwargs, result))
        return kwargs.get("tip") == 2

    with wait_for_call(courier, "deliver", callback) as result:
        courier.deliver("tea")
        courier.deliver("coffee", tip=2)

    assert result.get() == "coffee delivered"
    assert seen == [(("tea",), {}, "tea delivered"), (("coffee",), {"tip": 2}, "coffee delivered")]


def test_the_method_is_itself_again_afterwards():
    courier = Courier()
    method = courier.deliver

    with wait_for_call(courier, "deliver"):
        courier.deliver("tea")

    assert courier.deliver == method


def test_an_error_of_the_block_comes_out_at_once():
    courier = Courier()

    with pytest.raises(KeyError), wait_for_call(courier, "deliver"):
        raise KeyError

    assert courier.deliver("tea") == "tea delivered"


def test_the_wait_can_be_bound():
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.01), wait_for_call(Courier(), "deliver"):
        pass


def test_only_the_first_result_counts():
    result = WaitResult()
    with pytest.raises(WaitResult.NotReady):
        result.get()

    result.send(None, None)
    result.send("later", None)

    assert result.has_result
    assert result.get() is None
