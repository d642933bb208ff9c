"""A terminal without a window, and what was drawn on it."""

import fcntl
import os
import pty
import re
import select
import struct
import termios
import time


class Terminal:
    """A terminal of 100 columns. A program gets `slave` as its stdin, stdout and stderr."""

    def __init__(self):
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.raw = b""

    def until(self, pattern, patience=60.0):
        """Read until the newest picture has this pattern, and return the picture."""
        deadline = time.monotonic() + patience
        while True:
            newest = self.raw.decode("utf-8", "ignore").rpartition("\x1b[1;1H")[2]
            shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", re.sub(r"\x1b\[\d+;1H", "\n", newest))
            if re.search(pattern, shown):
                return shown
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.master], [], [], left)[0], f"no {pattern!r} in:\n{shown}"
            self.raw += os.read(self.master, 65536)

    def read_to_end(self, process):
        """All that is drawn until the process ends. Returns its exit code."""
        while process.poll() is None or select.select([self.master], [], [], 0.1)[0]:
            if select.select([self.master], [], [], 0.1)[0]:
                self.raw += os.read(self.master, 65536)
        return process.wait()

    def close(self):
        os.close(self.master)
        os.close(self.slave)
