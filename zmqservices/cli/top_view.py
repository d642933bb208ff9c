"""The keys of `zmqservices top`. Pure: a view and a key in, the next view out."""

from __future__ import annotations

from dataclasses import dataclass, replace

#: The order that each key chooses.
SORT_KEYS = {"n": "name", "r": "rate", "p": "p99", "f": "flight", "u": "queue", "o": "oldest", "e": "errors", "b": "backlog"}

#: The last line of the screen.
HELP = "q quit  sort: n name r rate p p99 f flight u queue o oldest e errors b backlog  R reverse  i instances  / filter"

#: Rows that page up and page down scroll.
PAGE = 10


@dataclass(frozen=True)
class TopView:
    """The choices of the user. `offset`: rows above the first one that is shown. `is_typing`: keys go into the filter."""

    sort: str = "name"
    is_reversed: bool = False
    with_instances: bool = True
    wanted: str = ""
    is_typing: bool = False
    offset: int = 0
    is_over: bool = False

    def pressed(self, key: str) -> TopView:
        """The view after a key."""
        return self._typed(key) if self.is_typing else self._commanded(key)

    def _typed(self, key: str) -> TopView:
        if key == "enter":
            return replace(self, is_typing=False)
        if key == "escape":
            return replace(self, is_typing=False, wanted="", offset=0)
        if key == "backspace":
            return replace(self, wanted=self.wanted[:-1], offset=0)
        return replace(self, wanted=self.wanted + key, offset=0) if len(key) == 1 else self

    def _commanded(self, key: str) -> TopView:
        if key in SORT_KEYS:
            return replace(self, sort=SORT_KEYS[key], is_reversed=False, offset=0)
        if key == "q":
            return replace(self, is_over=True)
        if key == "R":
            return replace(self, is_reversed=not self.is_reversed)
        if key == "i":
            return replace(self, with_instances=not self.with_instances, offset=0)
        if key == "/":
            return replace(self, is_typing=True)
        if key == "escape":
            return replace(self, wanted="", offset=0)
        steps = {"up": -1, "down": 1, "page up": -PAGE, "page down": PAGE}
        return replace(self, offset=max(0, self.offset + steps[key])) if key in steps else self
