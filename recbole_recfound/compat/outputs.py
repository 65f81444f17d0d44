"""RecBole's files are made when something is written to them, and in the folder of the run.

RecBole makes `saved/` and `log_tensorboard/` in the working directory whenever a trainer is built.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any


def make_parent(path: str | os.PathLike[str]) -> None:
    """Make the folder of a file that is about to be written."""
    os.makedirs(os.path.dirname(os.fspath(path)) or ".", exist_ok=True)


class LazyWriter:
    """A TensorBoard writer that opens its file with the first record, and goes silent where it cannot write.

    Args:
        logger: a log file of a run decides the folder: `tensorboard/` beside it, with a folder for each model.
        otherwise: RecBole's folder, outside of a run.
        open_writer: makes the writer of a folder.
    """

    def __init__(self, logger: logging.Logger, otherwise: str, open_writer: Callable[[str], Any]) -> None:
        self._logger, self._otherwise, self._open = logger, otherwise, open_writer
        self._model = ""
        self._writer: Any = None
        # Of several processes the first writes.
        self._silent = int(os.environ.get("WORLD_SIZE", 1)) > 1 and os.environ.get("RANK", "0") != "0"

    def of(self, model: str) -> LazyWriter:
        """Return this writer, with a folder of the model's name."""
        self._model = model
        return self

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("_"):
            raise AttributeError(name)

        def write(*values: Any, **options: Any) -> None:
            if self._silent or (self._writer is None and not name.startswith("add_")):
                return
            try:
                if self._writer is None:
                    self._writer = self._open(self._folder())
                getattr(self._writer, name)(*values, **options)
            except OSError as error:
                self._silent = True
                print(f"note: no TensorBoard files: {self._folder()} cannot be written ({error.strerror})", flush=True)

        return write

    def _folder(self) -> str:
        for handler in self._logger.handlers:
            if isinstance(handler, logging.FileHandler) and getattr(handler, "recfound", False):
                return os.path.join(os.path.dirname(handler.baseFilename), "tensorboard", self._model)
        return self._otherwise
