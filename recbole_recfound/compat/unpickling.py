"""The one gate of unpickling: a pickle can run any code when it is opened.

RecBole opens pickles from its working directory, from folders of runs and from paths in settings. All of these calls
come here: a file is unpickled only if this process has written it or the user trusts it; of every other file plain
tensors are read, and nothing else.
"""

from __future__ import annotations

import importlib
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

from recbole_recfound.errors import ConfigError

OPENED = ("mf_pretrain_path", "mlp_pretrain_path", "pretrain_path", "pre_model_path", "warm_up")
"""RecBole's settings that name a pickle: models that were trained before."""

Stamp = tuple[int, int, int]
_written: dict[str, Stamp] = {}
_sources: dict[str, dict[str, Stamp]] = {}
_trusted: set[str] = set()


def trust_checkpoint(path: str | os.PathLike[str]) -> None:
    """Allow this process to unpickle a file, which can run any code.

    Args:
        path: file whose source you trust.
    """
    _trusted.add(os.path.realpath(path))


def wrote(path: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None) -> None:
    """Remember a file that this process has just written; a file that changes later is another one.

    Args:
        path: the file.
        folder: of the atomic files that it was made of; None: of none.
    """
    name = os.path.realpath(path)
    _written[name] = _stamp(name)
    if folder is not None:
        _sources[name] = _stamps(folder)


def may_unpickle(path: Any) -> bool:
    """Return whether a file is one that this process wrote, or that the user trusts.

    Args:
        path: the file; anything else is not.
    """
    if not isinstance(path, (str, os.PathLike)):
        return False
    name = os.path.realpath(path)
    return name in _trusted or (name in _written and os.path.exists(name) and _written[name] == _stamp(name))


def is_fresh_cache(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> bool:
    """Return whether a cached data set can be used: this process wrote it, and its atomic files are as they were.

    Args:
        path: RecBole's cache.
        folder: of the atomic files.
    """
    name = os.path.realpath(path)
    if not os.path.exists(name):
        return False
    if name in _written and _written[name] == _stamp(name) and _sources.get(name) == _stamps(folder):
        return True
    warnings.warn(
        f"{path} is not read: a cached data set is a pickle, which can run any code, and may be older than the atomic "
        f"files; {folder} is read instead",
        stacklevel=2,
    )
    return False


def load_tensors(path: Any, **options: Any) -> Any:
    """Read a file of `torch.save`; with other objects than tensors only if it may be unpickled.

    Args:
        path: the file.
        options: of `torch.load`.

    Raises:
        ConfigError: no such file, or one that is not trusted.
    """
    if not path or not Path(path).is_file():
        names = ", ".join(OPENED)
        raise ConfigError(f"no file {str(path or '')!r}: the file of a trained model is needed here ({names})")
    known = may_unpickle(path)
    try:
        return importlib.import_module("torch").load(path, **options, weights_only=not known)
    except pickle.UnpicklingError as error:
        if known:
            raise
        raise _refusal(path) from error


def load_array(path: str | os.PathLike[str]) -> Any:
    """Read a file of `numpy.save`; with Python objects only if it may be unpickled.

    Args:
        path: the file.

    Raises:
        ConfigError: it holds objects and is not trusted.
    """
    try:
        return importlib.import_module("numpy").load(path, allow_pickle=may_unpickle(path))
    except ValueError as error:
        raise _refusal(path) from error


def _refusal(path: Any) -> ConfigError:
    return ConfigError(
        f"{path} is a pickle, which can run any code when opened. If you trust its source: --trust_checkpoint, or in "
        f"Python recbole_recfound.trust_checkpoint({str(path)!r}) before"
    )


def _stamp(path: str | os.PathLike[str]) -> Stamp:
    status = os.stat(path)
    return status.st_ino, status.st_size, status.st_mtime_ns


def _stamps(folder: str | os.PathLike[str]) -> dict[str, Stamp]:
    return {str(file): _stamp(file) for file in sorted(Path(folder).glob("*")) if file.is_file()}
