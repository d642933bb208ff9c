"""Matches event types against the patterns of subscriptions, by the rules of AMQP's topic exchanges.

Rule 1: dots separate words. `*` stands for exactly one word, `#` for any number of words, including none.
Rule 2: a pattern without `*` and `#` matches only the type that is equal to it.
"""

from __future__ import annotations

ONE_WORD = "*"
ANY_WORDS = "#"


class Pattern:
    """A compiled pattern, as `compile` makes it."""

    __slots__ = ("text", "_words")

    def __init__(self, text: str) -> None:
        self.text = text
        words = _words(text)
        #: None if only an equal type matches.
        self._words = words if ONE_WORD in words or ANY_WORDS in words else None

    def matches(self, event_type: str) -> bool:
        """Whether the subscription wants events of this type."""
        if self._words is None:
            return event_type == self.text
        return _matches(self._words, _words(event_type))

    def __repr__(self) -> str:
        return f"compile({self.text!r})"


def compile(pattern: str) -> Pattern:
    """Compile a pattern once, to match many event types."""
    return Pattern(pattern)


def _words(text: str) -> list[str]:
    return text.split(".") if text else []


def _matches(pattern: list[str], words: list[str]) -> bool:
    # All numbers of words that the pattern may have consumed so far. As there is no backtracking, matching takes at most as many
    # steps as the length of the pattern times the number of words.
    used = {0}
    for part in pattern:
        if part == ANY_WORDS:
            used = set(range(min(used), len(words) + 1))
        else:
            used = {n + 1 for n in used if n < len(words) and part in (ONE_WORD, words[n])}
        if not used:
            return False
    return len(words) in used
