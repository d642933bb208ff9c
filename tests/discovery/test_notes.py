"""Which of two notes wins, how long notes are kept, and how many. The tests pass `now` themselves."""

from discovery import Note
from discovery.notes import AHEAD, MAX_ALL_NOTES, MAX_NOTES, NoteStore

NOW = 1_800_000_000.0
DAY = 86_400.0


def note(key="k", at=0.0, value=("v",), ttl=DAY, namespace="n"):
    return Note(namespace, key, int((NOW + at) * 1e6), ttl, None if value is None else dict.fromkeys(value))


def test_the_newer_of_two_notes_wins_in_either_order():
    old, new = note(at=0, value="a"), note(at=1, value="b")

    for order in ([old, new], [new, old]):
        notes = NoteStore()
        for one in order:
            notes.take([one], NOW)
        assert list(notes) == [new]


def test_only_new_notes_are_reported():
    notes = NoteStore()

    assert notes.take([note()], NOW) == [note()]
    assert notes.take([note()], NOW) == []
    assert notes.take([note(at=-1)], NOW) == []


def test_two_notes_of_the_same_moment_have_the_same_winner_everywhere():
    rivals = [note(value="a"), note(value="b"), note(value=None)]
    held = set()
    for order in (rivals, rivals[::-1], rivals[1:] + rivals[:1]):
        notes = NoteStore()
        notes.take(order, NOW)
        held.add(repr(list(notes)))

    assert held == {repr([note(value=None)])}


def test_a_deleted_note_is_not_restored_by_a_store_that_was_away():
    notes = NoteStore()
    notes.take([note(at=0)], NOW)

    notes.take([note(at=1, value=None)], NOW)
    notes.take([note(at=0)], NOW)

    assert notes.get("n", "k").value is None


def test_a_deleted_note_that_is_written_later_is_back():
    notes = NoteStore()
    notes.take([note(at=1, value=None)], NOW)

    notes.take([note(at=2)], NOW)

    assert notes.get("n", "k") == note(at=2)


def test_an_expired_note_is_removed_and_not_accepted_again():
    notes = NoteStore()
    notes.take([note(ttl=DAY)], NOW)

    assert not notes.expire(NOW + DAY - 1)
    assert notes.expire(NOW + DAY + 1)
    assert len(notes) == 0
    assert notes.take([note(ttl=DAY)], NOW + DAY + 1) == []


def test_a_note_from_the_far_future_is_rejected():
    notes = NoteStore()

    assert notes.take([note(at=AHEAD + 1)], NOW) == []
    assert notes.take([note(at=AHEAD - 1)], NOW) != []


def test_a_full_namespace_loses_its_oldest_notes_and_other_namespaces_none():
    notes = NoteStore()
    notes.take([note("mine", namespace="other", at=-1000)], NOW)
    many = [note(f"k{number}", at=-number / 1000) for number in range(MAX_NOTES + 10)]

    news = notes.take(many, NOW)

    assert len(notes.of("n")) == MAX_NOTES == len(news)
    assert notes.get("n", "k0") and not notes.get("n", f"k{MAX_NOTES}")
    assert notes.get("other", "mine")


def test_all_namespaces_together_are_bounded_too():
    notes = NoteStore()
    for place in range(MAX_ALL_NOTES // MAX_NOTES + 1):
        notes.take([note(f"k{number}", namespace=f"n{place}") for number in range(MAX_NOTES)], NOW)

    assert len(notes) == MAX_ALL_NOTES


def test_the_notes_of_one_writer_are_bounded_and_it_may_replace_them():
    notes = NoteStore(most_of_writer=2)
    notes.take([note("a"), note("b")], NOW, b"flood")

    assert notes.take([note("c"), note("b", at=1), note("a")], NOW, b"flood") == [note("b", at=1)]
    assert notes.refused == 1
    assert notes.take([note("c"), note("a", at=1)], NOW, b"other") == [note("c"), note("a", at=1)]
    assert notes.refused == 0
    assert notes.take([note("d")], NOW, b"flood") == [note("d")], "one of its own was replaced by another writer"


def test_a_flood_of_new_notes_displaces_no_note_of_smaller_writers():
    notes = NoteStore()
    notes.take([note(f"honest{number}", at=-1000) for number in range(100)], NOW, b"a")

    notes.take([note(f"k{number}") for number in range(MAX_NOTES + 100)], NOW, b"flood")

    assert len(notes) == MAX_NOTES
    assert all(notes.get("n", f"honest{number}") for number in range(100))


def test_removed_notes_count_for_no_writer():
    notes = NoteStore(most_of_writer=1)
    notes.take([note("a", ttl=DAY)], NOW, b"a")
    notes.expire(NOW + DAY + 1)

    assert notes.take([note("b", at=DAY + 1)], NOW + DAY + 1, b"a") != []
