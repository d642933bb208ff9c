"""A call of an idempotent method that takes unusually long gets a second attempt, and the first answer counts."""

import pytest

from tests.cluster.calls.world import Calling
from zmqservices import probes
from zmqservices.cluster.calls.call import DONE, SENT
from zmqservices.exceptions import CallCancelled, ConfigurationError, MaybeExecuted, RemoteError, RpcTimeout
from zmqservices.resilience.hedging import LEAST, REFUSED_PAUSE
from zmqservices.rpc import rpc
from zmqservices.rpc.proxies import check_hedge
from zmqservices.wire.messages import Bye, Call, Cancel, Error

#: Seconds that a call takes usually, and a moment later than that.
USUAL, LATER = 0.1, 0.15
NAMES = ("one", "two")
IDEMPOTENT = {"add": {"idempotent": True}}


class Hedging:
    """Two instances whose calls take USUAL seconds."""

    def __init__(self, methods=IDEMPOTENT, names=NAMES, **settings):
        self.calling = Calling(**{"rpc_hedge": True, **settings})
        self.links = {name: self.calling.add_instance(name, **methods) for name in names}

    def warm_up(self, calls=LEAST):
        for _ in range(calls):
            call = self.begin()
            self.wind(USUAL)
            self.answer(call)
        return self

    def begin(self, hedge=None, key=None, timeout=10.0):
        call = self.calling.caller.begin("maths", "add", (2, 3), None, None, timeout, None, None, key, hedge)
        self.calling.reactor.turn()
        return call

    def wind(self, seconds):
        self.calling.reactor.wind(seconds)

    def place(self, call):
        return call.instance.record.instance

    def answer(self, call, value=5):
        self.links[self.place(call)].answer(call, value)

    def second(self, call):
        """The link to the other instance, and the CALL that was sent there for this call, if one was."""
        [other] = [link for name, link in self.links.items() if name != self.place(call)]
        sent = [message for message in other.said(Call) if message.id > call.id]
        return other, sent[-1] if sent else None

    def hedged(self, **options):
        """A call whose second attempt is under way: the call, the link to its first instance, the other link, and the attempt."""
        call = self.begin(**options)
        self.wind(LATER)
        other, second = self.second(call)
        assert second is not None
        return call, self.links[self.place(call)], other, second

    def state(self):
        [service] = self.calling.caller.call_state()
        return service

    def in_flight(self):
        return [each["in_flight"] for each in self.state()["instances"]]


@pytest.fixture
def hedging():
    return Hedging().warm_up()


def error(id, code=None, value="no"):
    coded = {"code": code} if code else {}
    return Error(id, {"exc_type": "ValueError", "exc_path": "", "exc_args": [value], "value": value, **coded})


# --- when --------------------------------------------------------------------------------------------------


def test_a_call_that_takes_longer_than_usual_is_sent_to_another_instance(hedging):
    call = hedging.begin()
    hedging.wind(USUAL - 0.01)
    assert hedging.second(call)[1] is None

    hedging.wind(LATER - USUAL)
    _, second = hedging.second(call)

    assert (second.service, second.method, second.args) == ("maths", "add", [2, 3])
    assert second.time_left == pytest.approx(10.0 - USUAL, abs=0.001)
    assert hedging.state()["hedged"] == 1


def test_a_call_is_hedged_once(hedging):
    call, first, other, _ = hedging.hedged()
    hedging.wind(5.0)

    assert len([message for link in (first, other) for message in link.said(Call) if message.id > call.id]) == 1


def test_nothing_is_hedged_before_the_usual_duration_is_known():
    hedging = Hedging().warm_up(LEAST - 1)

    call = hedging.begin()
    hedging.wind(5.0)

    assert hedging.second(call)[1] is None


def test_hedging_is_off_by_default():
    hedging = Hedging(rpc_hedge=False).warm_up(3 * LEAST)

    call = hedging.begin()
    hedging.wind(5.0)

    assert hedging.second(call)[1] is None
    assert call.history is None


def test_the_proxy_may_switch_hedging_on():
    hedging = Hedging(rpc_hedge=False)
    for _ in range(LEAST):
        call = hedging.begin(hedge=True)
        hedging.wind(USUAL)
        hedging.answer(call)

    assert hedging.hedged(hedge=True)


def test_the_service_may_switch_hedging_on():
    assert Hedging({"add": {"idempotent": True, "hedge": True}}, rpc_hedge=False).warm_up().hedged()


def test_the_proxy_may_switch_hedging_off(hedging):
    call = hedging.begin(hedge=False)
    hedging.wind(5.0)

    assert hedging.second(call)[1] is None


@pytest.mark.parametrize("hedge", [True, None])
def test_a_method_that_is_not_idempotent_is_never_hedged(hedge):
    hedging = Hedging({"add": {"idempotent": False, "hedge": True}})
    for _ in range(2 * LEAST):
        call = hedging.begin(hedge=hedge)
        hedging.wind(USUAL)
        hedging.answer(call)

    call = hedging.begin(hedge=hedge)
    hedging.wind(5.0)

    assert hedging.second(call)[1] is None


def test_a_call_with_a_key_is_not_hedged(hedging):
    call = hedging.begin(key=b"k")
    hedging.wind(5.0)

    assert hedging.second(call)[1] is None


def test_hedging_uses_the_retry_budget():
    hedging = Hedging(rpc_retry_ratio=0.1, rpc_retries_per_second=0).warm_up()
    assert hedging.state()["retries"] == pytest.approx(0.1 * LEAST, abs=0.5)

    for _ in range(8):
        call = hedging.begin()
        hedging.wind(LATER)
        hedging.answer(call)

    # Two were earned by the calls before these, and nearly one by these.
    assert hedging.state()["hedged"] == 2
    assert hedging.state()["retries"] < 1.0


def test_an_equally_busy_instance_gets_no_second_attempts(hedging):
    calls = [hedging.begin() for _ in range(10)]
    assert hedging.in_flight() == [5, 5]

    hedging.wind(5.0)

    assert hedging.state()["hedged"] == 0
    assert all(call.stage == SENT for call in calls)


def test_a_less_busy_instance_gets_second_attempts(hedging):
    call, *others = [hedging.begin() for _ in range(2)]
    hedging.wind(1.0)
    assert hedging.state()["hedged"] == 0

    hedging.answer(others[0])
    hedging.wind(1.0)

    assert hedging.state()["hedged"] == 1
    assert hedging.second(call)[1] is not None


def test_after_a_full_instance_refused_a_call_nothing_is_hedged_for_a_while(hedging):
    refused, call = hedging.begin(), hedging.begin()
    assert hedging.place(refused) != hedging.place(call)
    hedging.links[hedging.place(refused)].say(error(refused.id, "overloaded"))
    hedging.wind(REFUSED_PAUSE - 0.01)
    assert hedging.state()["hedged"] == 0
    hedging.answer(refused)
    hedging.answer(call)
    hedging.wind(0.02)

    assert hedging.hedged()


def test_an_ejected_instance_gets_no_second_attempts(hedging):
    [pool] = hedging.calling.caller._pools.values()
    call = hedging.begin()
    other = next(instance for instance in pool.ready if instance is not call.instance)
    other.health.eject("it fails", other.load, 60.0, hedging.calling.reactor.now)
    hedging.calling.caller.refresh(pool)

    hedging.wind(5.0)

    assert hedging.second(call)[1] is None


def test_an_instance_that_drains_or_is_lost_gets_no_second_attempts(hedging):
    call = hedging.begin()
    other, _ = hedging.second(call)
    other.say(Bye(["maths"], None))
    hedging.wind(5.0)

    assert other.said(Call)[-1].id < call.id


# --- what becomes of both ----------------------------------------------------------------------------------


def test_the_second_attempt_answers_first_and_the_first_is_cancelled(hedging):
    call, first, other, second = hedging.hedged()
    place = hedging.place(call)

    other.answer(second, "from the other")

    assert call.outcome() == "from the other"
    assert hedging.place(call) != place
    assert [message.id for message in first.said(Cancel)] == [call.id]
    assert hedging.in_flight() == [0, 0]
    assert hedging.state()["hedges_won"] == 1
    assert hedging.calling.reactor.woken.count(call) == 1


def test_the_first_attempt_answers_first_and_the_second_is_cancelled(hedging):
    call, first, other, second = hedging.hedged()

    first.answer(call, 5)
    other.answer(second, "too late")

    assert call.outcome() == 5
    assert [message.id for message in other.said(Cancel)] == [second.id]
    assert hedging.in_flight() == [0, 0]
    assert hedging.state()["hedges_won"] == 0


def test_an_error_of_the_method_is_an_answer(hedging):
    call, first, other, second = hedging.hedged()

    other.say(error(second.id))

    with pytest.raises(RemoteError, match="no"):
        call.outcome()
    assert [message.id for message in first.said(Cancel)] == [call.id]
    assert hedging.in_flight() == [0, 0]


@pytest.mark.parametrize("code", ["overloaded", "draining", "unknown-service", "protocol", "expired", "forbidden", "cancelled"])
@pytest.mark.parametrize("which", ["first", "second"])
def test_if_one_attempt_is_refused_the_other_goes_on(hedging, code, which):
    call, first, other, second = hedging.hedged()
    id = call.id

    if which == "first":
        first.say(error(id, code))
        assert call.stage == SENT
        other.answer(second, 5)
    else:
        other.say(error(second.id, code))
        assert call.stage == SENT
        first.answer(call, 5)

    assert call.outcome() == 5
    assert hedging.in_flight() == [0, 0]


def test_if_both_attempts_are_refused_the_call_is_refused(hedging):
    call, first, other, second = hedging.hedged()

    first.say(error(call.id, "cancelled"))
    other.say(error(second.id, "cancelled"))

    with pytest.raises(CallCancelled):
        call.outcome()
    assert hedging.in_flight() == [0, 0]


@pytest.mark.parametrize("which", ["first", "second"])
def test_if_one_link_is_lost_the_other_attempt_goes_on(hedging, which):
    call, first, other, second = hedging.hedged()

    (first if which == "first" else other).listener.on_disconnect()
    assert call.stage == SENT
    if which == "first":
        other.answer(second, 5)
    else:
        first.answer(call, 5)

    assert call.outcome() == 5


def test_if_both_links_are_lost_the_call_is_repeated_like_any_other():
    hedging = Hedging(rpc_wait_for_service=0.5).warm_up()
    call, first, other, _ = hedging.hedged()

    other.listener.on_disconnect()
    first.listener.on_disconnect()
    hedging.wind(2.0)

    with pytest.raises(MaybeExecuted):
        call.outcome()


def test_the_deadline_of_the_call_ends_both_attempts(hedging):
    call, first, other, second = hedging.hedged(timeout=1.0)

    hedging.wind(1.0)

    with pytest.raises(RpcTimeout):
        call.outcome()
    assert [message.id for message in first.said(Cancel)] == [call.id]
    assert [message.id for message in other.said(Cancel)] == [second.id]
    assert hedging.in_flight() == [0, 0]
    assert hedging.calling.reactor.woken.count(call) == 1
    assert hedging.calling.caller._pending == {}


def test_a_short_deadline_ends_both_attempts_as_well(hedging):
    call, *_ = hedging.hedged(timeout=0.3)

    hedging.wind(0.3)

    with pytest.raises(RpcTimeout):
        call.outcome()
    assert hedging.calling.caller._pending == {}


def test_giving_up_a_call_ends_both_attempts(hedging):
    call, first, other, second = hedging.hedged()

    hedging.calling.caller.abandon(call)

    assert [message.id for message in first.said(Cancel) + other.said(Cancel)] == [call.id, second.id]
    assert hedging.in_flight() == [0, 0]


def test_a_client_that_stops_ends_both_attempts(hedging):
    call, *_ = hedging.hedged()

    hedging.calling.caller.close()

    with pytest.raises(CallCancelled):
        call.outcome()
    assert hedging.calling.caller._pending == {}


def test_an_instance_that_lost_to_second_attempts_counts_as_slow(hedging):
    call, _, other, second = hedging.hedged()
    slow = call.instance
    before, answers = slow.load.paces["add"].latency, slow.load.answers
    other.answer(second, 5)

    assert slow.load.paces["add"].latency > before
    assert slow.load.answers == answers


def test_probes_are_called_for_second_attempts_and_for_one_end():
    heard = []

    class Ears(probes.Probe):
        def call_hedged(self, call):
            heard.append(("hedged", call.service, call.method))

        def call_ended(self, call):
            heard.append(("ended", call.service, call.method))

    with probes.attached(Ears()):
        hedging = Hedging().warm_up()
        heard.clear()
        call, _, other, second = hedging.hedged()
        other.answer(second, 5)

    assert heard == [("hedged", "maths", "add"), ("ended", "maths", "add")]


# --- bad options -------------------------------------------------------------------------------------------


def test_only_idempotent_methods_may_declare_hedging():
    with pytest.raises(ConfigurationError, match="say idempotent=True if that does no harm"):

        class Service:
            name = "service"

            @rpc(hedge=True)
            def method(self): ...


def test_an_option_that_is_neither_true_nor_false_is_quoted():
    with pytest.raises(ConfigurationError, match=r"@rpc\(hedge='yes'\): True or False is needed"):
        rpc(hedge="yes")(lambda self: None)
    with pytest.raises(ConfigurationError, match="hedge='yes' of a proxy: True, False or None is needed"):
        check_hedge("yes", "a proxy")
    with pytest.raises(ConfigurationError, match="rpc_hedge"):
        Calling(rpc_hedge="perhaps")
    assert DONE
