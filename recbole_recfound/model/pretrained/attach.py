"""Attachment of a function to an unmodified model: at a sub-module's input or output, or a method's return value.

RecBole's trainer calls `calculate_loss` and `predict`, which call `self.forward` directly: hooks on the model itself
never fire, and the last vector often comes from a method (`gather_indexes`) or inside a tuple (LightGCN's `forward`).
So methods of the instance are wrapped as well, for the time of one call, and the model is as it was afterwards.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from recbole_recfound.errors import ConfigError

Adapt = Callable[[torch.Tensor], torch.Tensor]


class Attachment:
    """A place in a frozen model.

    Args:
        base: the model; its parameters must not change (tables that it computes from them alone are kept).
        place: `NAME` (output of a sub-module), `input:NAME` (its first input), `method:NAME` (what a method of the
            model returns) or `method:NAME[0]` (a table in a tuple, of which the batch's rows are taken later).

    Raises:
        ConfigError: there is no such sub-module or method.
    """

    def __init__(self, base: nn.Module, place: str) -> None:
        self.base, self.place = base, place
        self._adapt: Adapt | None = None
        self._table: tuple | None = None
        match = re.fullmatch(r"(?:(input|method):)?([\w.]+?)(\[0\])?", place)
        kind, name, in_tuple = match.groups() if match else ("", "", None)
        if not match or (in_tuple and kind != "method"):
            raise ConfigError(f"kernel_args: layer: {place!r} must be NAME, input:NAME or method:NAME")
        if kind == "method":
            if not callable(getattr(base, name, None)):
                raise ConfigError(f"kernel_args: layer: the base {type(base).__name__} has no method {name!r}")
            self._install = self._rows_of_table if in_tuple else self._method
        else:
            modules = dict(base.named_modules())
            if name not in modules:
                raise ConfigError(
                    f"kernel_args: layer: the base {type(base).__name__} has no sub-module {name!r}. --list_layers "
                    "lists them"
                )
            self._install = self._input if kind == "input" else self._output
        self._name = name

    @contextmanager
    def using(self, adapt: Adapt) -> Iterator[None]:
        """Pass every vector at this place through `adapt` inside a `with` block.

        Args:
            adapt: maps [N, ..., d] to the same shape, N the rows of the batch.
        """
        if self._adapt is not None:
            raise RuntimeError(f"{self.place} is in use already")
        self._adapt = adapt
        remove = self._install()
        try:
            yield
        finally:
            remove()
            self._adapt = None

    def forget(self) -> None:
        """Drop the table of the base's vectors, which belongs to other weights."""
        self._table = None

    def apply(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return `adapt(vectors)` inside a `using` block, else the vectors.

        Raises:
            ConfigError: at this place there is no tensor of vectors.
        """
        if self._adapt is None:
            return vectors
        if not isinstance(vectors, torch.Tensor) or vectors.dim() < 2 or not vectors.is_floating_point():
            found = (
                f"a tensor of shape {list(vectors.shape)}"
                if isinstance(vectors, torch.Tensor)
                else type(vectors).__name__
            )
            raise ConfigError(
                f"kernel_args: layer: {self.place} returns {found}, expected [rows, ..., d]. --list_layers lists others"
            )
        return self._adapt(vectors)

    def _input(self) -> Callable[[], None]:
        module = self.base.get_submodule(self._name)
        return module.register_forward_pre_hook(lambda _, args: (self.apply(args[0]), *args[1:])).remove

    def _output(self) -> Callable[[], None]:
        module = self.base.get_submodule(self._name)
        return module.register_forward_hook(lambda _, args, output: self.apply(output)).remove

    def _method(self) -> Callable[[], None]:
        original = getattr(self.base, self._name)
        return self._replace(lambda *args, **kwargs: self.apply(original(*args, **kwargs)))

    def _rows_of_table(self) -> Callable[[], None]:
        original = getattr(self.base, self._name)

        def lazily(*args: Any, **kwargs: Any) -> Any:
            if self._table is None:
                with torch.no_grad():
                    first, *rest = original(*args, **kwargs)
                self._table = (_Rows(first, self), *rest)
            return self._table

        remove = self._replace(lazily)
        forget_cached(
            self.base
        )  # full_sort_predict keeps the table that it saw first, ours must not outlive this `with`

        def undo() -> None:
            remove()
            forget_cached(self.base)

        return undo

    def _replace(self, function: Callable) -> Callable[[], None]:
        vars(self.base)[self._name] = function
        return lambda: vars(self.base).pop(self._name)


def forget_cached(model: nn.Module) -> None:
    """Drop RecBole's caches of the last evaluation (`restore_user_e` and the like), which belong to other weights."""
    for name in getattr(model, "other_parameter_name", ()):
        setattr(model, name, None)


class _Rows:
    """A table of vectors whose rows are adapted when indexed: one user may be in several domains of a batch."""

    def __init__(self, table: torch.Tensor, attachment: Attachment) -> None:
        self._table, self._attachment = table, attachment

    def __getitem__(self, rows: torch.Tensor) -> torch.Tensor:
        return self._attachment.apply(self._table[rows])


@torch.no_grad()
def probe(attachment: Attachment, call: Callable[[], object], rows: int) -> tuple[int, int]:
    """Return the width d of the vectors at a place, and how many of them each row has.

    Args:
        attachment: the place.
        call: runs the base on a batch.
        rows: rows of that batch.

    Raises:
        ConfigError: the place is never reached, more than once, or not with one entry per row.
    """
    shapes: list[tuple[int, ...]] = []

    def record(vectors: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(vectors.shape))
        return vectors

    with attachment.using(record):
        call()
    if len(shapes) != 1:
        raise ConfigError(
            f"kernel_args: layer: {attachment.place} runs {len(shapes)} times in one pass, expected once. Choose "
            "another layer"
        )
    if shapes[0][0] != rows:
        raise ConfigError(
            f"kernel_args: layer: {attachment.place} returns {list(shapes[0])} for a batch of {rows} rows, expected "
            "the rows as first dimension"
        )
    return shapes[0][-1], math.prod(shapes[0][1:-1])
