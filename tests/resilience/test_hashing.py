"""Claims about which instance gets the calls of a key."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

import pytest

from zmqservices.resilience.balance import Load
from zmqservices.resilience.hashing import BOUND, FEW, as_bytes, choose_by_key, order

KEYS = [as_bytes(number) for number in range(10_000)]


class Candidate:
    def __init__(self, id: str, share: float = 1.0) -> None:
        self.id = id
        self.load = Load()
        self.load.share = share


def candidates(count: int) -> list[Candidate]:
    return [Candidate(f"instance-{number}") for number in range(count)]


def owners(among: list[Candidate]) -> dict[bytes, Candidate]:
    return {key: choose_by_key(among, key) for key in KEYS}


def test_keys_are_spread_evenly() -> None:
    shares = Counter(owners(candidates(10)).values())

    assert len(shares) == 10
    assert all(count == pytest.approx(1000, rel=0.15) for count in shares.values())


def test_keys_are_spread_by_weight() -> None:
    small, large = Candidate("small"), Candidate("large", share=3.0)

    assert Counter(owners([small, large]).values())[large] == pytest.approx(7500, rel=0.05)


def test_all_callers_choose_alike_whatever_order_they_know_the_instances_in() -> None:
    assert [each.id for each in owners(candidates(5)).values()] == [each.id for each in owners(candidates(5)[::-1]).values()]


@pytest.mark.parametrize("count", [2, 5, 10])
def test_when_an_instance_goes_only_its_own_keys_move_and_evenly(count: int) -> None:
    before = candidates(count)
    gone, left = before[0], before[1:]
    was, now = owners(before), owners(left)

    moved = [key for key in KEYS if was[key] is not now[key]]

    assert {was[key] for key in moved} == {gone}
    assert len(moved) / len(KEYS) == pytest.approx(1 / count, rel=0.15)
    taken = Counter(now[key] for key in moved)
    assert all(taken[each] == pytest.approx(len(moved) / len(left), rel=0.3) for each in left)


@pytest.mark.parametrize("count", [1, 4, 9])
def test_when_an_instance_comes_it_takes_its_part_and_nothing_else_moves(count: int) -> None:
    before = candidates(count)
    new = Candidate("new")
    was, now = owners(before), owners([*before, new])

    moved = [key for key in KEYS if was[key] is not now[key]]

    assert {now[key] for key in moved} == {new}
    assert len(moved) / len(KEYS) == pytest.approx(1 / (count + 1), rel=0.15)


def test_an_instance_with_too_many_calls_is_passed_over_in_the_order_of_the_key() -> None:
    among, key = candidates(4), KEYS[0]
    first, second, *_ = order(among, key)
    first.load.in_flight = FEW
    assert choose_by_key(among, key) is second

    for each in among:
        each.load.in_flight = 100
    assert choose_by_key(among, key) is first
    first.load.in_flight = int(100 * BOUND * 1.1)
    assert choose_by_key(among, key) is second


def test_a_hot_key_alone_loads_no_instance_beyond_the_bound() -> None:
    among = candidates(4)
    for _ in range(1000):
        choose_by_key(among, KEYS[0]).load.in_flight += 1

    assert max(each.load.in_flight for each in among) <= BOUND * 1000 / 4 + 1


def test_up_to_a_few_calls_a_key_stays_where_it_is() -> None:
    among = candidates(4)

    chosen = []
    for _ in range(FEW):
        chosen.append(choose_by_key(among, KEYS[0]))
        chosen[-1].load.in_flight += 1

    assert set(chosen) == {order(among, KEYS[0])[0]}


def test_numbers_and_texts_and_uuids_are_keys() -> None:
    some = UUID("12345678123456781234567812345678")

    assert as_bytes(17) == as_bytes("17") == as_bytes(b"17")
    assert as_bytes(some) == str(some).encode()


@pytest.mark.parametrize("key", [["a"], {"a": 1}, object(), (1, 2)])
def test_other_values_are_refused(key: object) -> None:
    with pytest.raises(TypeError, match="a text, bytes, a number or a UUID is needed"):
        as_bytes(key)
