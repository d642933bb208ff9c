"""Counts dispatched and handled events in files at both ends. A line is written before anything else happens."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from tests.system.processes import PATIENCE, eventually
from zmqservices.extensions import DependencyProvider


class TallyFile(DependencyProvider):
    """Injects `write(number)`: a line in the folder `TALLY`, in one write to a file that all processes share."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def setup(self) -> None:
        path = Path(self.container.config["TALLY"]) / self.name
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._pid = os.getpid()

    def get_dependency(self, worker_ctx: Any) -> Any:
        return self.write

    def write(self, number: int) -> None:
        os.write(self._file, f"{number} {self._pid}\n".encode())


class Setting(DependencyProvider):
    """Injects one setting of the container."""

    def __init__(self, key: str, default: Any) -> None:
        super().__init__()
        self.key, self.default = key, default

    def get_dependency(self, worker_ctx: Any) -> Any:
        return self.container.config.get(self.key, self.default)


class TallyLines:
    """One of the files: each line is read once, however often it is looked at. The services need the processor."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self.lines: list[tuple[int, int]] = []
        self.numbers: set[int] = set()

    def read_on(self) -> None:
        """Take what was added, up to the last whole line."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            added = file.read()
        whole = added[: added.rfind(b"\n") + 1]
        self._read += len(whole)
        found = [(int(number), int(pid)) for number, pid in (line.split() for line in whole.splitlines())]
        self.lines += found
        self.numbers.update(number for number, _ in found)


class Tallies:
    """The folder, as the test reads it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._files: dict[str, TallyLines] = {}

    def _file(self, name: str) -> TallyLines:
        file = self._files.setdefault(name, TallyLines(self.folder / name))
        file.read_on()
        return file

    def lines(self, name: str) -> list[tuple[int, int]]:
        """(number, pid) of each line."""
        return list(self._file(name).lines)

    def numbers(self, name: str) -> list[int]:
        return [number for number, _ in self._file(name).lines]

    def missing(self) -> set[int]:
        """Dispatched, and not handled yet."""
        handled = self._file("handled").numbers
        return self._file("dispatched").numbers - handled

    def wait_until_handled(self, count: int = 0, timeout: float = PATIENCE) -> None:
        """Return once all that was dispatched is handled, and that is `count` events at least."""

        def done() -> bool:
            return len(self._file("dispatched").lines) >= count and not self.missing()

        try:
            eventually(done, timeout, "everything that was dispatched is handled")
        except AssertionError as exc:
            missing = sorted(self.missing())
            raise AssertionError(f"{exc}; {len(missing)} are missing: {missing[:10]}") from None

    def wait_for(self, name: str, count: int, timeout: float = PATIENCE) -> None:
        eventually(lambda: len(self._file(name).lines) >= count, timeout, f"{count} lines of {name}")

    def duplicates(self, name: str = "handled") -> dict[int, int]:
        """How often each was handled that was handled more than once."""
        return {number: count for number, count in Counter(self.numbers(name)).items() if count > 1}
