"""Results on disk: one JSON object per line and measurement."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO


class BadLine(ValueError):
    """A line of a file is no result; the text names the file and the line."""


def read(paths: Iterable[str | Path]) -> list[dict[str, Any]]:
    """All lines of the files, in order. Raises BadLine, and OSError for a file that cannot be read."""
    found = []
    for path in paths:
        for number, text in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
            if text.strip():
                found.append(_parsed(text, path, number))
    return found


def _parsed(text: str, path: str | Path, number: int) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError as exc:
        raise BadLine(f"{path}, line {number}: {exc}") from exc
    if not isinstance(line, dict) or "kind" not in line:
        raise BadLine(f"{path}, line {number} is no result of the bench")
    return line


class Writer:
    """Appends each line at once, so that an interrupted run keeps its results. None: writes nothing."""

    def __init__(self, path: str | Path | None) -> None:
        self._file: TextIO | None = None
        if path is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._file = Path(path).open("a", encoding="utf-8")

    def write(self, line: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
