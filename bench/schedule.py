"""The order of measurements: A B C, A B C, so that changes of the machine's speed affect all subjects alike.

Rule 1: pure.
Rule 2: what is compared stands side by side: within a round, all subjects of a case follow each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

S = TypeVar("S")
C = TypeVar("C")


def interleaved(rounds: int, cases: Sequence[C], subjects: Sequence[S]) -> Iterator[tuple[int, C, S]]:
    """Every round, case and subject once. Each round starts with another subject, so that none is always the first."""
    for number in range(rounds):
        for case in cases:
            for place in range(len(subjects)):
                yield number, case, subjects[(number + place) % len(subjects)]
