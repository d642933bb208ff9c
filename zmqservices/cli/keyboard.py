"""Keys of a terminal as they are pressed, without waiting for a whole line."""

from __future__ import annotations

import os
import re
import select
import termios
import tty
from types import TracebackType
from typing import Any

#: What terminals send for keys that are no characters.
NAMED = {
    "\x1b[A": "up", "\x1bOA": "up", "\x1b[B": "down", "\x1bOB": "down", "\x1b[5~": "page up", "\x1b[6~": "page down",
    "\x1b": "escape", "\x7f": "backspace", "\x08": "backspace", "\r": "enter", "\n": "enter",
}  # fmt: skip

_KEY = re.compile(r"\x1b\[[0-9;]*[A-Za-z~]|\x1bO[A-Z]|.", re.DOTALL)


def keys_in(text: str) -> list[str]:
    """The keys that were pressed: characters, and the names of NAMED. Other keys are left out."""
    found = (NAMED.get(one, one) for one in _KEY.findall(text))
    return [one for one in found if not one.startswith("\x1b") and (len(one) > 1 or one.isprintable())]


class Keyboard:
    """The terminal at the descriptor `fd`; as it was before, once the block is left."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before: list[Any] = []
        self.is_closed = False

    def __enter__(self) -> Keyboard:
        self._before = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd)  # Ctrl-C goes on being a signal.
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def read(self, timeout: float) -> list[str]:
        """The keys that were pressed within `timeout` seconds; returns with the first. `is_closed` when there will be no more."""
        if not select.select([self._fd], [], [], max(0.0, timeout))[0]:
            return []
        try:
            read = os.read(self._fd, 1024)
        except OSError:
            read = b""
        self.is_closed = not read
        return keys_in(read.decode("utf-8", "ignore"))
