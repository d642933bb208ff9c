"""A hook that runs code before or after the import of certain modules, whichever module imports them first."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class ImportHook(MetaPathFinder):
    """A finder that lets other finders find the modules of NAMES, and executes them with `run`.

    Put it first into `sys.meta_path`. A module gets its own loader back before it is executed.
    """

    NAMES: Collection[str] = ()

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname not in self.NAMES:
            return None
        others = (finder.find_spec(fullname, path, target) for finder in tuple(sys.meta_path) if finder is not self)
        spec = next((spec for spec in others if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _RunByHook(spec.loader, self.run)
        return spec

    def run(self, module: ModuleType, execute: Callable[[ModuleType], None]) -> None:
        """Execute a module of NAMES. Subclasses add a step before or after."""
        execute(module)


class _RunByHook(Loader):
    """Takes the place of a module's own loader until the module is executed."""

    def __init__(self, loader: Loader, run: Callable[[ModuleType, Callable[[ModuleType], None]], None]) -> None:
        self._loader, self._run = loader, run

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._run(module, self._loader.exec_module)

    def __getattr__(self, name: str) -> Any:
        # For callers that look at the spec of a module without importing it.
        return getattr(self._loader, name)
