"""Makes Python find the packages of this project, whatever modules are in the working directory.

`zmqservices run` and `python -m zmqservices` put the working directory first on Python's path. A module of the user there may
have the name of one of our packages.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import zmqservices

#: The top-level packages of this project.
NAMES = ("zmqservices", "discovery")


class _OwnPackages:
    """Finds our packages in the folder of `zmqservices`; all other modules are left to Python.

    The base class is not `importlib.abc.MetaPathFinder`, whose module imports `tempfile` and `shutil`; few commands need them.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in NAMES:
            return None
        package = _home() / fullname
        if not (package / "__init__.py").is_file():
            return None  # The package is installed elsewhere; Python's own finders find it.
        return importlib.util.spec_from_file_location(
            fullname, package / "__init__.py", submodule_search_locations=[str(package)]
        )


def _home() -> Path:
    return Path(zmqservices.__file__).resolve().parent.parent


def protect() -> None:
    """Find the packages of this project first from now on. Call this before any other of them is imported."""
    if not any(isinstance(finder, _OwnPackages) for finder in sys.meta_path):
        sys.meta_path.insert(0, _OwnPackages())


def hidden_in(folder: Path) -> list[Path]:
    """The modules in `folder` that cannot be imported because a package of this project has their name."""
    if folder.resolve() == _home():
        return []
    found = (path for name in NAMES for path in (folder / f"{name}.py", folder / name / "__init__.py"))
    return [path for path in found if path.is_file()]


def is_own(module: str) -> bool:
    """Whether the name of a service's module is that of one of our packages."""
    return module.partition(".")[0] in NAMES
