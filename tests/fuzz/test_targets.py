"""No bytes make a decoder raise what it does not promise: known cases and mutations of seeds; `make fuzz` is guided."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.at_random import examples
from tests.fuzz.__main__ import NAMES
from tests.fuzz.cases import CASES
from tests.fuzz.targets import TARGETS


def mutated(seed, chance):
    """The seed with bytes changed, cut, doubled or put in."""
    data = bytearray(seed)
    for _ in range(chance.randint(1, 6)):
        at = chance.randint(0, len(data))
        match chance.randint(0, 4):
            case 0 if at < len(data):
                data[at] = chance.randint(0, 255)
            case 1:
                data[at:at] = bytes([chance.choice((0, 0x7F, 0x80, 0x91, 0xC1, 0xC7, 0xDC, 0xDD, 0xDF, 0xFF))])
            case 2:
                del data[at : at + chance.randint(1, 8)]
            case 3:
                data[at:at] = data[at : at + chance.randint(1, 64)]
            case _:
                data += chance.randbytes(chance.randint(1, 16))
    return bytes(data)


def test_the_command_knows_every_target():
    assert set(NAMES) == set(TARGETS)


@pytest.mark.parametrize(("name", "data"), [(name, data) for name, _, data in CASES], ids=[f"{n}: {w}" for n, w, _ in CASES])
def test_a_known_case_ends_as_promised(name, data):
    TARGETS[name].hold(data)


@pytest.mark.parametrize("name", TARGETS)
def test_mutations_of_what_is_well_formed_end_as_promised(name):
    target, chance = TARGETS[name], random.Random(20260)
    for _ in range(300):
        target.hold(mutated(chance.choice(target.seeds), chance))


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_end_as_promised(name):
    @settings(max_examples=examples(100), database=None)
    @given(st.binary(max_size=300))
    def check(data):
        TARGETS[name].hold(data)

    check()
