"""Registration of merge methods and sparsifications, each one typed function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

from recbole_recfound.runtime import registry
from recbole_recfound.runtime.options import parameters_of

Function = TypeVar("Function", bound=Callable[..., Tensor])
GIVEN = ("tensors", "deltas", "weights", "generator")
"""Parameters of a merge method that `merge` supplies; all others are its options."""


@dataclass(frozen=True)
class MergeMethod:
    """A merge method.

    Attributes:
        function: merges one tensor of all models. Its first parameter is `tensors` (K tensors of one shape) or `deltas`
            (their differences from the base); it may have `weights` (K weights that sum to one), `generator` (a random
            generator on the tensors' device) and options with defaults.
        models: number of models it merges; None for two or more.
    """

    function: Callable[..., Tensor]
    models: int | None = None

    @property
    def on_deltas(self) -> bool:
        """Whether it merges differences from the base, which it prunes itself."""
        return "deltas" in parameters_of(self.function)

    @property
    def weighted(self) -> bool:
        """Whether the models have weights."""
        return "weights" in parameters_of(self.function)

    @property
    def options(self) -> dict[str, Any]:
        """Options with their defaults."""
        return {name: default for name, default in parameters_of(self.function).items() if name not in GIVEN}

    def __call__(self, tensors: list[Tensor], **given: Any) -> Tensor:
        """Merge one tensor of all models.

        Args:
            tensors: K tensors, or their differences from the base.
            given: weights, generator and options; those the function does not have are dropped.
        """
        names = parameters_of(self.function)
        first = "deltas" if self.on_deltas else "tensors"
        return self.function(**{first: tensors}, **{name: value for name, value in given.items() if name in names})


MERGE_METHODS: registry.Registry[MergeMethod] = registry.MERGE_METHODS
"""All merge methods by name."""
SPARSIFICATIONS: registry.Registry[Callable[..., Tensor]] = registry.SPARSIFICATIONS
"""All sparsifications by name: functions of (delta, density[, generator])."""


def merge_method(name: str, models: int | None = None) -> Callable[[Function], Function]:
    """Return a decorator that registers a function as a merge method.

    Args:
        name: name for configurations.
        models: number of models it merges; None for two or more.

    Raises:
        ConfigError: another function has this name.
    """

    def register(function: Function) -> Function:
        MERGE_METHODS.add(name, MergeMethod(function, models))
        return function

    return register


def sparsified(delta: Tensor, name: str, density: float, generator: Any) -> Tensor:
    """Return a sparsified delta.

    Args:
        delta: difference from the base, any shape.
        name: one of `SPARSIFICATIONS`.
        density: share of the entries that remain, in (0, 1].
        generator: random generator on delta's device.
    """
    function = SPARSIFICATIONS[name]
    return function(delta, density, generator) if "generator" in parameters_of(function) else function(delta, density)
