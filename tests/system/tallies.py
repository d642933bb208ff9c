"""What was dispatched and what was handled, counted at both ends in files: a line is there before anything else happens."""

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


class Tallies:
    """The folder, as the test reads it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def lines(self, name: str) -> list[tuple[int, int]]:
        """(number, pid) of each line."""
        path = self.folder / name
        if not path.exists():
            return []
        found = path.read_text().splitlines()
        return [(int(number), int(pid)) for number, pid in (line.split() for line in found)]

    def numbers(self, name: str) -> list[int]:
        return [number for number, _ in self.lines(name)]

    def missing(self) -> set[int]:
        """Dispatched, and not handled yet."""
        return set(self.numbers("dispatched")) - set(self.numbers("handled"))

    def wait_until_handled(self, count: int = 0, timeout: float = PATIENCE) -> None:
        """Return once all that was dispatched is handled, and that is `count` events at least."""

        def done() -> bool:
            return len(self.numbers("dispatched")) >= count and not self.missing()

        try:
            eventually(done, timeout, "everything that was dispatched is handled")
        except AssertionError as exc:
            missing = sorted(self.missing())
            raise AssertionError(f"{exc}; {len(missing)} are missing: {missing[:10]}") from None

    def wait_for(self, name: str, count: int, timeout: float = PATIENCE) -> None:
        eventually(lambda: len(self.numbers(name)) >= count, timeout, f"{count} lines of {name}")

    def duplicates(self, name: str = "handled") -> dict[int, int]:
        """How often each was handled that was handled more than once."""
        return {number: count for number, count in Counter(self.numbers(name)).items() if count > 1}
