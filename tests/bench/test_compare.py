import random

import pytest

from bench import compare
from bench.compare import Verdict

from .results import rounds

STEADY = [100.0, 101.0, 99.0, 100.5, 99.5]


def verdict(old, new, metric="rate", **options):
    changes = compare.compare(old, new, **options)
    return next(change for change in changes if change.subject == "zmqservices" and change.metric == metric).verdict


def test_the_same_is_no_regression():
    assert verdict(rounds("zmqservices", STEADY), rounds("zmqservices", STEADY[::-1])) is Verdict.SAME


def test_a_clear_loss_is_a_regression():
    slower = [rate * 0.8 for rate in STEADY]

    changes = compare.compare(rounds("zmqservices", STEADY), rounds("zmqservices", slower))

    assert {change.metric for change in changes if change.is_regression} == {"rate", "cpu_us", "p50_us"}
    assert "WORSE" in compare.text(changes)


def test_a_clear_gain_is_none():
    faster = [rate * 1.3 for rate in STEADY]

    assert verdict(rounds("zmqservices", STEADY), rounds("zmqservices", faster)) is Verdict.BETTER
    assert verdict(rounds("zmqservices", STEADY), rounds("zmqservices", faster), "cpu_us") is Verdict.BETTER


def test_a_loss_too_small_to_matter_is_none():
    slower = [rate * 0.98 for rate in STEADY]

    assert verdict(rounds("zmqservices", STEADY), rounds("zmqservices", slower)) is Verdict.SAME


def test_a_loss_within_the_noise_is_none():
    wild = [60.0, 140.0, 100.0, 80.0, 120.0]
    lower = [55.0, 130.0, 90.0, 75.0, 118.0]

    assert verdict(rounds("zmqservices", wild), rounds("zmqservices", lower)) is Verdict.SAME


def test_a_slower_machine_is_taken_out_by_the_yardstick():
    old = [*rounds("zmqservices", STEADY), *rounds("pyzmq", [200.0] * 5)]
    new = [*rounds("zmqservices", [rate / 2 for rate in STEADY]), *rounds("pyzmq", [100.0] * 5)]

    assert verdict(old, new) is Verdict.SAME
    assert verdict(old, new, against=None) is Verdict.WORSE


def test_three_rounds_prove_nothing():
    assert verdict(rounds("zmqservices", [100.0] * 3), rounds("zmqservices", [50.0] * 3)) is Verdict.UNKNOWN


def test_noise_that_hides_changes_is_told():
    wild = [60.0, 140.0, 100.0, 80.0, 120.0]

    assert "cannot be seen" in compare.text(compare.compare(rounds("zmqservices", wild), rounds("zmqservices", wild)))
    assert "cannot be seen" not in compare.text(compare.compare(rounds("zmqservices", STEADY), rounds("zmqservices", STEADY)))


def test_nothing_in_common_is_said():
    assert "Nothing was measured in both" in compare.text(compare.compare(rounds("a", STEADY), rounds("b", STEADY)))


def test_the_chance_is_exact_for_small_samples():
    assert compare.by_chance([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == pytest.approx(2 / 252)
    assert compare.by_chance([1, 1, 1], [1, 1, 1]) == 1.0


def test_false_alarms_are_as_rare_as_promised():
    drawn = random.Random(7)
    alarms = sum(
        compare.by_chance([drawn.gauss(1, 1) for _ in range(5)], [drawn.gauss(1, 1) for _ in range(5)]) <= compare.ALPHA
        for _ in range(400)
    )

    assert alarms / 400 < 2 * compare.ALPHA
