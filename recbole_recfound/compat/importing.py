"""Import hooks that repair a module when it is imported, so that unused modules cost nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

Repair = Callable[[ModuleType], AbstractContextManager]
"""Entered before the module's own code is run, left after it."""


class _RepairingLoader(SourceFileLoader):
    def __init__(self, fullname: str, path: str, repair: Repair) -> None:
        super().__init__(fullname, path)
        self._repair = repair

    def exec_module(self, module: ModuleType) -> None:
        with self._repair(module):
            super().exec_module(module)


class RepairingFinder(MetaPathFinder):
    """Finder of the modules named in `repairs`, which repairs them as they are loaded or reloaded.

    Args:
        repairs: module name -> context manager around the execution of the module.
    """

    def __init__(self, repairs: Mapping[str, Repair]) -> None:
        self._repairs = dict(repairs)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Implement Python's finder protocol: None means "not found here".

        Args:
            fullname: module that is imported.
            path: search path of its package.
            target: module that is reloaded.
        """
        if fullname not in self._repairs:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _RepairingLoader(fullname, spec.loader.path, self._repairs[fullname])
        return spec

    def repair_imported(self) -> None:
        """Repair the modules that were imported before this package."""
        for name, repair in self._repairs.items():
            if name in sys.modules:
                with repair(sys.modules[name]):
                    pass
