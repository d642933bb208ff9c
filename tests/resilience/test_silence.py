"""Claims about when a silent node is suspect."""

from __future__ import annotations

from zmqservices.resilience.silence import SILENT_BEATS, Silence

BEAT = 2.0


def beats(silence: Silence, *times: float, heard_at: float) -> list[int]:
    return [silence.beat(now, BEAT, heard_at) for now in times]


def test_whoever_was_heard_a_moment_ago_is_not_asked() -> None:
    assert beats(Silence(), 100.0, heard_at=99.0) == [0]


def test_one_that_does_not_answer_is_suspect_after_some_questions() -> None:
    found = beats(Silence(), 102.0, 104.0, 106.0, heard_at=100.0)

    assert found == [1, 2, 3]
    assert found[-1] == SILENT_BEATS


def test_however_long_it_had_nothing_to_say_before_it_is_asked_first() -> None:
    silence = Silence()
    assert beats(silence, 2.0, heard_at=1.0) == [0]

    # An hour without calls, then one that takes long.
    assert beats(silence, 3602.0, heard_at=2.5) == [1]
    assert beats(silence, 3604.0, heard_at=3602.1) == [0]
    assert beats(silence, 3606.0, heard_at=3602.1) == [1]


def test_an_answer_begins_the_count_anew() -> None:
    silence = Silence()
    assert beats(silence, 102.0, 104.0, heard_at=100.0) == [1, 2]

    assert beats(silence, 106.5, heard_at=104.1) == [1]


def test_beats_that_come_late_do_not_count() -> None:
    silence = Silence()
    assert beats(silence, 102.0, heard_at=100.0) == [1]

    # This process was busy for long: the answers are there, and not read yet.
    assert beats(silence, 110.0, 120.0, heard_at=100.0) == [1, 1]
    assert beats(silence, 122.0, 124.0, heard_at=100.0) == [2, 3]
