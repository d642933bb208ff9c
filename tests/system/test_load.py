"""The honest load of these tests does not stall by itself, however long it runs."""

import gc
import time

from tests.system.load import Load


def run(calls):
    load = Load({"DIRECTORY": "static:nobody=tcp://127.0.0.1:1"}, lambda cluster, number: number, greenlets=1)
    with load:
        load.wait_for(calls)
    return load


def test_the_collector_does_not_look_at_outcomes_again():
    load = run(10)

    gc.collect()

    assert not any(map(gc.is_tracked, load._done))


def test_the_calls_begun_since_some_time_are_the_last_ones():
    load = run(10)

    assert load.begun(0.0) == load.outcomes
    assert load.begun(load.outcomes[4].began) == load.outcomes[4:]
    assert load.begun(time.monotonic()) == []
