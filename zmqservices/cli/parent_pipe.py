"""The parent's pipe: the socket between a supervisor and each process that it started.

The process writes JSON lines to it: whether its services are up, and which files it imported. The supervisor writes nothing.
When the supervisor ends, in whatever way, its end of the socket closes, and the process stops.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from importlib import util
from pathlib import Path
from typing import Any

#: The environment variable that has the file descriptor of the process's end.
VARIABLE = "ZMQSERVICES_PARENT_PIPE_FD"


class ParentPipe:
    """The supervised process's end. Its methods do nothing when there is no supervisor."""

    def __init__(self, fd: int | None = None) -> None:
        self.fd = fd
        self._watcher: Any = None

    @classmethod
    def from_environment(cls) -> ParentPipe:
        """The end of the pipe that a supervisor gave to this process. Its child processes do not inherit it."""
        text = os.environ.pop(VARIABLE, "")
        if not text.isdigit():
            return cls()
        os.set_inheritable(int(text), False)
        return cls(int(text))

    def tell(self, services: Iterable[str] | None = None, files: Callable[[], Iterable[str]] = tuple) -> None:
        """Tell the supervisor that `services` are up (None: that they failed to start), and which source files they use."""
        if self.fd is None:
            return
        import json

        up = None if services is None else list(services)
        message = json.dumps({"up": up, "files": sorted(files())}).encode() + b"\n"
        try:
            while message:
                message = message[os.write(self.fd, message) :]
        except OSError:
            pass  # The supervisor has ended; `on_cut` handles that.

    def on_cut(self, callback: Callable[[], None]) -> None:
        """Call `callback` in a greenlet of its own when the supervisor has ended."""
        if self.fd is None:
            return
        import gevent

        self._watcher = gevent.get_hub().loop.io(self.fd, 1)
        self._watcher.start(self._cut, callback)

    def _cut(self, callback: Callable[[], None]) -> None:
        import gevent

        self._watcher.stop()
        gevent.spawn(callback)


def imported_files(names: Iterable[str] = (), error: BaseException | None = None) -> set[str]:
    """The source files of this process that belong neither to Python nor to installed packages.

    They include the files of the modules `names`, even if `error` prevented their import.
    """
    import sysconfig

    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    files |= {_origin(name) for name in names}
    while error is not None:
        files.add(getattr(error, "filename", None))
        error = error.__cause__
    installed = tuple(sysconfig.get_path(scheme) + os.sep for scheme in ("stdlib", "platstdlib", "purelib", "platlib"))
    return {file for file in files if isinstance(file, str) and _is_watchable(file, installed)}


def _is_watchable(file: str, installed: tuple[str, ...]) -> bool:
    return not file.startswith(installed) and not file.startswith("<") and Path(file).is_file()


def _origin(name: str) -> str | None:
    try:
        spec = util.find_spec(name.partition(":")[0])
    except (ImportError, ValueError, AttributeError, SyntaxError):
        return None
    return spec.origin if spec else None
