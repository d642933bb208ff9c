"""Reads the keys of a terminal as they are pressed, without waiting for the end of a line."""

from __future__ import annotations

import os
import re
import select
import termios
import tty
from types import TracebackType
from typing import Any

#: The names of keys that are no characters, by what terminals send for them.
NAMED = {
    "\x1b[A": "up", "\x1bOA": "up", "\x1b[B": "down", "\x1bOB": "down", "\x1b[5~": "page up", "\x1b[6~": "page down",
    "\x1b": "escape", "\x7f": "backspace", "\x08": "backspace", "\r": "enter", "\n": "enter",
}  # fmt: skip

_KEY = re.compile(r"\x1b\[[0-9;]*[A-Za-z~]|\x1bO[A-Z]|.", re.DOTALL)


def keys_in(text: str) -> list[str]:
    """The pressed keys: characters, and the names of NAMED. Other keys are left out."""
    found = (NAMED.get(one, one) for one in _KEY.findall(text))
    return [one for one in found if not one.startswith("\x1b") and (len(one) > 1 or one.isprintable())]


class Keyboard:
    """The keyboard of the terminal at the descriptor `fd`. The end of the block restores the terminal."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before: list[Any] = []
        self.is_closed = False

    def __enter__(self) -> Keyboard:
        self._before = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd)  # In this mode, Ctrl-C still sends a signal.
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def read(self, timeout: float) -> list[str]:
        """Wait at most `timeout` seconds for keys, and return those that were pressed.

        Sets `is_closed` if there can be no more.
        """
        if not select.select([self._fd], [], [], max(0.0, timeout))[0]:
            return []
        try:
            read = os.read(self._fd, 1024)
        except OSError:
            read = b""
        self.is_closed = not read
        return keys_in(read.decode("utf-8", "ignore"))
