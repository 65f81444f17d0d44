"""Repairs that let RecBole 1.2.1 run on current versions of torch, numpy, pandas, scipy and setuptools.

RecBole 1.2.1 is its last release and breaks on the current versions of nearly everything below it. Importing this
package repairs it: only RecBole's own functions are changed, only in version 1.2.1, and each only when RecBole imports
the module that contains it: importing this package stays cheap and other users of torch or pandas are unaffected.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any

from recbole_recfound.compat.aliases import set_numpy_aliases
from recbole_recfound.compat.importing import Repair, RepairingFinder
from recbole_recfound.compat.plugin import Plugin, add_aliases, plugin_repairs
from recbole_recfound.compat.repairs import repairs_by_module

SUPPORTED = "1.2.1"


def install(
    plugins: Mapping[str, Plugin] | None = None,
    defaults: Callable[[str], Mapping[str, Any]] = lambda model: {},
    further: Mapping[str, str] | None = None,
) -> bool:
    """Repair RecBole, once per Python process, and let it look up models of a plug-in by name.

    Args:
        plugins: by the name of the model's class.
        defaults: gives the default settings of one of these models.
        further: module of RecBole -> `module:function` that is called with it after its import.

    Returns:
        Whether the repairs are in place; False (with a warning) for every RecBole but 1.2.1, which is left as it is.
    """
    import recbole

    if recbole.__version__ != SUPPORTED:
        warnings.warn(
            f"recbole {recbole.__version__} found, but the repairs are written for {SUPPORTED}: nothing was patched. "
            f"pip install recbole=={SUPPORTED}",
            stacklevel=2,
        )
        return False
    if any(isinstance(finder, RepairingFinder) for finder in sys.meta_path):
        return True
    set_numpy_aliases()
    # deprecations in RecBole's last release cannot be acted on
    for category in (FutureWarning, DeprecationWarning):
        warnings.filterwarnings("ignore", category=category, module=r"recbole\.")
    repairs = {module: [repair] for module, repair in repairs_by_module().items()}
    for module, of_plugins in plugin_repairs(plugins or {}, defaults).items():
        repairs.setdefault(module, []).extend(of_plugins)
    for module, place in (further or {}).items():
        repairs.setdefault(module, []).append(_calling(place))
    add_aliases(plugins or {})
    finder = RepairingFinder({module: _together(several) for module, several in repairs.items()})
    finder.repair_imported()
    sys.meta_path.insert(0, finder)
    return True


def _calling(place: str) -> Repair:
    name, _, function = place.partition(":")

    @contextmanager
    def call(module: ModuleType) -> Iterator[None]:
        yield
        getattr(importlib.import_module(name), function)(module)

    return call


def _together(repairs: list[Repair]) -> Repair:
    @contextmanager
    def all_of_them(module: ModuleType) -> Iterator[None]:
        with ExitStack() as stack:
            for repair in repairs:
                stack.enter_context(repair(module))
            yield

    return all_of_them
