"""The routing context: the tasks of the rows of the running forward pass.

The route lives in a context variable for the duration of one forward and never on a module, where a second forward
would overwrite it before the first one's backward. Gradient checkpointing runs parts of a forward again during
backward, after the context has ended (and, with CUDA, on another thread): each checkpoint stores its route.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import nn

from recbole_recfound.adapter.tmole.gates import ForwardGates
from recbole_recfound.adapter.tmole.router import RoutedLayer
from recbole_recfound.adapter.tmole.tasks import Plan, Tasks, TaskTable

_T = TypeVar("_T")

_route: ContextVar[Route | None] = ContextVar("tmole_route", default=None)


class Route:
    """The tasks of the rows of one forward pass.

    Args:
        tasks: one task for all rows of any batch, or one per row.
        generating: the route serves one call of `generate`. It accepts a whole multiple of the rows, each repeated in
            place, as beam search makes them, and remembers what depends on weights and tasks alone.
        layers: of the model, whose gates are computed together when the first of them runs.
    """

    def __init__(self, tasks: Tasks, generating: bool = False, layers: Sequence[RoutedLayer] = ()) -> None:
        self.shared = isinstance(tasks, (int, str))
        self.tasks: tuple[int | str, ...] = (tasks,) if isinstance(tasks, (int, str)) else tuple(_as_list(tasks))
        self.generating = generating
        self.layers = layers
        self._gates: dict[tuple[str, torch.dtype], ForwardGates] = {}
        self._alone: Route | None = None
        self._plans: dict[tuple[int, int, torch.device], Plan] = {}
        self._remembered: dict[Hashable, Any] = {}
        if not self.tasks:
            raise ValueError("a route needs at least one task")

    def plan(self, table: TaskTable, rows: int, device: torch.device) -> Plan:
        """Return an adapter's plan for a batch of `rows` rows, computed once per forward.

        Args:
            table: the adapter's task table.
            rows: B, the rows of the batch.
            device: of the batch.

        Raises:
            ValueError: the batch does not have one row per task.
        """
        key = (id(table), rows, device)
        if key not in self._plans:
            self._plans[key] = table.plan(self._ids(table, rows), device)
        return self._plans[key]

    def for_generation(self) -> Route:
        """Return a route of the same tasks for one call of `generate`."""
        return Route(self.tasks[0] if self.shared else self.tasks, generating=True, layers=self.layers)

    def layer_by_layer(self) -> Route:
        """Return a route for gradient checkpointing, in which every layer computes its own gate.

        A checkpointed part runs again during backward and must repeat exactly what it did in forward.
        """
        if self._alone is None:
            self._alone = Route(self.tasks[0] if self.shared else self.tasks, self.generating)
        return self._alone

    def rank_gate(self, layer: RoutedLayer, adapter_name: str, plan: Plan, dtype: torch.dtype) -> torch.Tensor:
        """Return a layer's gates over the wide rank, scaled: [B, n * r], or [1, n * r] if the batch has one task.

        Args:
            layer: the adapted layer.
            adapter_name: name of the adapter.
            plan: of the current batch.
            dtype: of the result.
        """
        key = adapter_name, dtype
        gate = self._gates[key].take(layer, plan) if key in self._gates else None
        if gate is None:
            self._gates[key] = ForwardGates(self.layers, layer, adapter_name, plan, dtype)
            gate = self._gates[key].take(layer, plan)
            assert gate is not None, "gates that were just computed"
        return gate

    @property
    def remembers(self) -> bool:
        """Whether the weights are constant, so that what depends on them is computed once."""
        return self.generating and not torch.is_grad_enabled()

    def remember(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """Return `make()`, computed once per generation.

        Args:
            key: identifies the value.
            make: computes it.
        """
        if not self.remembers:
            return make()
        if key not in self._remembered:
            self._remembered[key] = make()
        return self._remembered[key]

    def check_rows(self, rows: int) -> None:
        """Raise ValueError unless a batch of `rows` rows has one row per task."""
        if not self.shared and rows != len(self.tasks):
            raise ValueError(f"{len(self.tasks)} tasks were given for a batch of {rows} rows: give one task per row")

    def _ids(self, table: TaskTable, rows: int) -> tuple[int, ...]:
        ids = table.ids(self.tasks)
        if self.shared:
            return ids
        if self.generating and rows % len(ids) == 0:
            return tuple(task for task in ids for _ in range(rows // len(ids)))
        self.check_rows(rows)
        return ids


def current_route() -> Route | None:
    """Return the route of the running forward, or None outside of one."""
    return _route.get()


@contextmanager
def use_route(route: Route | None) -> Iterator[None]:
    """Make `route` the current one for a block."""
    token = _route.set(route)
    try:
        yield
    finally:
        _route.reset(token)


def checkpoint_context_fn() -> tuple[AbstractContextManager, AbstractContextManager]:
    """Return the `context_fn` of `torch.utils.checkpoint.checkpoint(..., use_reentrant=False)` for the current route.

    Only needed around your own checkpoints: those of the decoder layers are handled.
    """
    route = _layer_by_layer()
    return use_route(route), use_route(route)


def _layer_by_layer() -> Route | None:
    route = current_route()
    return None if route is None else route.layer_by_layer()


class RoutedCheckpoint:
    """A checkpoint function that runs in forward and backward under the route that is current when it is called.

    Args:
        checkpoint: `torch.utils.checkpoint.checkpoint` or a wrapper of it; reentrant or not.
    """

    def __init__(self, checkpoint: Callable[..., Any]) -> None:
        self.checkpoint = checkpoint

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Checkpoint `function` under the current route."""
        route = _layer_by_layer()

        def routed(*inputs: Any, **named: Any) -> Any:
            """Call the function under the recorded route."""
            with use_route(route):
                return function(*inputs, **named)

        return self.checkpoint(routed, *args, **kwargs)


def keep_routes(modules: Iterable[nn.Module]) -> None:
    """Let the gradient checkpoints of transformers' decoder layers carry their route, however they were enabled."""
    for module in modules:
        checkpoint = getattr(module, "_gradient_checkpointing_func", None)
        if checkpoint is not None and not isinstance(checkpoint, RoutedCheckpoint):
            vars(module)["_gradient_checkpointing_func"] = RoutedCheckpoint(checkpoint)


def _as_list(tasks: Any) -> list[int | str]:
    if isinstance(tasks, torch.Tensor):
        raise TypeError("tasks must be a list of ids or names, not a tensor: reading it back would stall the device")
    return list(tasks)
