"""`import nameko` as a name for zmqservices, so that unchanged Nameko applications and extensions run here.

    from zmqservices import compat

    compat.install()
    from nameko.rpc import rpc          # is zmqservices.rpc.rpc

Rule 1: modules are the same objects under both names, so classes are, too.
Rule 2: nothing happens by importing this; `install` adds one finder, `uninstall` takes it back.
Rule 3: the real Nameko and this one cannot be mixed: where it is already imported, that is an error.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["install", "is_installed", "uninstall"]

ALIAS = "nameko"
REAL = "zmqservices"


class _SameModule(Loader):
    """Loads a module by handing out another one as it is."""

    def __init__(self, real_name: str) -> None:
        self._real_name = real_name
        self._own: dict[str, Any] = {}

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._real_name)
        # The import system writes the alias's spec on whatever is returned here.
        self._own = {name: vars(module).get(name) for name in ("__spec__", "__loader__", "__package__")}
        return module

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(self._own)


class _Finder(MetaPathFinder):
    """Finds `nameko` and what is below it, under the names of zmqservices."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        alias, dot, rest = fullname.partition(".")
        if alias != ALIAS:
            return None
        real_name = f"{REAL}{dot}{rest}"
        real = importlib.util.find_spec(real_name)
        if real is None:
            return None
        return ModuleSpec(
            fullname, _SameModule(real_name), is_package=real.submodule_search_locations is not None
        )


_finder = _Finder()


def is_installed() -> bool:
    """Whether `import nameko` means zmqservices."""
    return _finder in sys.meta_path


def install() -> None:
    """From here on `import nameko` and its submodules are zmqservices. A second call does nothing.

    The real Nameko need not be installed; where it is, it is hidden. Raises ImportError when it was imported before.
    """
    if is_installed():
        return
    imported = sys.modules.get(ALIAS)
    if imported is not None:
        where = getattr(imported, "__file__", None) or "somewhere"
        raise ImportError(
            f"the real nameko was imported already (from {where}), so `import nameko` cannot mean zmqservices any more; "
            "call zmqservices.compat.install() before anything imports nameko, or use `zmqservices run --as-nameko`"
        )
    sys.meta_path.insert(0, _finder)


def uninstall() -> None:
    """Undo `install`, for tests: forget the alias. Modules that imported from it keep what they have."""
    if is_installed():
        sys.meta_path.remove(_finder)
    for name in [name for name in sys.modules if name == ALIAS or name.startswith(f"{ALIAS}.")]:
        if sys.modules[name] is sys.modules.get(REAL + name.removeprefix(ALIAS)):
            del sys.modules[name]
