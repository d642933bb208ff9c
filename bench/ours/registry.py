"""A registry of the run's own, so that no other service is seen and nothing of another's is."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.processes import Child, free_port


class Registry:
    """`python -m discovery serve` on a free port of loopback."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        self._child: Child | None = None

    def __enter__(self) -> Registry:
        command = [sys.executable, "-m", "discovery", "serve", "--bind", f"tcp://{self.address}"]
        self._child = Child(command, self._folder / "registry.log")
        self._child.wait_for_port(self.address)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._child is not None:
            self._child.stop()

    def pids(self) -> list[int]:
        return self._child.pids() if self._child is not None else []
