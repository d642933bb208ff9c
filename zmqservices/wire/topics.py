"""Which event types a subscription's pattern means, as topic exchanges of AMQP have it.

Rule 1: words are parted by dots; `*` stands for exactly one word, `#` for any number of them, none included.
Rule 2: a pattern without these two means itself.
"""

from __future__ import annotations

ONE_WORD = "*"
ANY_WORDS = "#"


class Pattern:
    """Use `compile`; ask with `matches`."""

    __slots__ = ("text", "_words")

    def __init__(self, text: str) -> None:
        self.text = text
        words = _words(text)
        #: None where only the very same text matches.
        self._words = words if ONE_WORD in words or ANY_WORDS in words else None

    def matches(self, event_type: str) -> bool:
        """Whether the subscription wants events of this type."""
        if self._words is None:
            return event_type == self.text
        return _matches(self._words, _words(event_type))

    def __repr__(self) -> str:
        return f"compile({self.text!r})"


def compile(pattern: str) -> Pattern:
    """The pattern, ready to be asked many times."""
    return Pattern(pattern)


def _words(text: str) -> list[str]:
    return text.split(".") if text else []


def _matches(pattern: list[str], words: list[str]) -> bool:
    # The number of words that the pattern so far may have used up, all possibilities side by side: no backtracking,
    # so that no pattern takes longer than its length times the words.
    used = {0}
    for part in pattern:
        if part == ANY_WORDS:
            used = set(range(min(used), len(words) + 1))
        else:
            used = {n + 1 for n in used if n < len(words) and part in (ONE_WORD, words[n])}
        if not used:
            return False
    return len(words) in used
