"""The TMoLE tuner."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from recbole_recfound.adapter.shared import SharedPartTuner
from recbole_recfound.adapter.tmole.config import TMoLEConfig
from recbole_recfound.adapter.tmole.layer import Linear, TMoLELayer
from recbole_recfound.adapter.tmole.routing import Route, current_route, keep_routes, use_route
from recbole_recfound.adapter.tmole.tasks import Tasks, TaskTable

#: The keyword that carries the tasks through PEFT's forward and generate. (PEFT swallows one named `task_ids`.)
TASKS_ARGUMENT = "tmole_tasks"


class TMoLEModel(SharedPartTuner):
    """A backbone with task-routed low-rank experts (RecFound TMoLE, arXiv 2506.11999).

    Args:
        model: the frozen backbone.
        config: adapter configuration.
        adapter_name: name of the adapter.

    Example:
        >>> from peft import get_peft_model
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from recbole_recfound.adapter import TMoLEConfig
        >>> sizes = dict(hidden_size=8, intermediate_size=8, num_attention_heads=2, num_hidden_layers=1, vocab_size=9)
        >>> kinds = ["embedding", "generative"]
        >>> config = TMoLEConfig(task_type="CAUSAL_LM", r=2, task_names=["U2I", "SR"], task_kinds=kinds)
        >>> model = get_peft_model(LlamaForCausalLM(LlamaConfig(**sizes)), config)
        >>> ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
        >>> model(input_ids=ids, tmole_tasks=["U2I", "SR"]).logits.shape  # one task per row
        torch.Size([2, 3, 9])
        >>> with model.routing("SR"):  # any part of the backbone, one task for all rows
        ...     hidden = model.get_base_model().model(ids).last_hidden_state
    """

    uses_shared_state: bool = True
    prefix: str = "tmole_"
    tuner_layer_cls = TMoLELayer
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012  # PEFT types it so

    def routing(self, tasks: Tasks) -> AbstractContextManager[None]:
        """Return a context in which the rows of every forward belong to `tasks`.

        Args:
            tasks: a task id or name for all rows of any batch, or a list with one per row.

        Raises:
            ValueError: a task that an active adapter does not have.
        """
        keep_routes(self._checkpointing)
        route = Route(tasks, layers=self._layers)
        for adapter_name in self.active_adapters:
            if adapter_name in self.tmole_task_table:
                self._table(adapter_name).ids(route.tasks)
        return use_route(route)

    def forward(self, *args: Any, tmole_tasks: Tasks | None = None, **kwargs: Any) -> Any:
        """Run the backbone, under a route for `tmole_tasks` if they are given."""
        if tmole_tasks is None:
            return self.model(*args, **kwargs)
        with self.routing(tmole_tasks):
            return self.model(*args, **kwargs)

    def generate(self, *args: Any, tmole_tasks: Tasks | None = None, **kwargs: Any) -> Any:
        """Generate with the backbone; beams and returned sequences take over the task of their row.

        Raises:
            ValueError: the batch does not have one row per task.
        """
        route = current_route() if tmole_tasks is None else Route(tmole_tasks, layers=self._layers)
        if route is None:
            return self.model.generate(*args, **kwargs)
        rows = _batch_size(*args, **kwargs)
        if rows is not None:
            route.check_rows(rows)
        with use_route(route.for_generation()):
            return self.model.generate(*args, **kwargs)

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """Set the route for one call of `PeftModel.forward` or `generate`."""
        if kwargs.get("adapter_names") is not None:
            raise ValueError("TMoLE does not mix adapters in a batch: its rows differ by task, use tmole_tasks")
        if kwargs.get(TASKS_ARGUMENT) is None:
            yield
            return
        # PeftModel without a task_type calls the backbone itself, which must not see our keyword.
        hook = self.model.register_forward_pre_hook(_drop_tasks, with_kwargs=True)
        try:
            with self.routing(kwargs[TASKS_ARGUMENT]):
                yield
        finally:
            hook.remove()

    def _table(self, adapter_name: str) -> TaskTable:
        return cast(TaskTable, self.tmole_task_table[adapter_name])

    def _pre_injection_hook(self, model: nn.Module, config: PeftConfig, adapter_name: str) -> None:
        self.tmole_task_table = nn.ModuleDict()
        self._layers: list[TMoLELayer] = []
        # A list, so that the modules are not registered a second time.
        self._checkpointing = [module for module in model.modules() if hasattr(module, "gradient_checkpointing")]

    def _create_and_replace(  # type: ignore[override]  # PEFT's own tuners have keywords here too
        self,
        tmole_config: TMoLEConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        **optional_kwargs: Any,
    ) -> None:
        base_layer = target.get_base_layer() if isinstance(target, BaseTunerLayer) else target
        if not isinstance(base_layer, nn.Linear):
            raise TypeError(f"TMoLE adapts torch.nn.Linear only, but {target_name} is {type(base_layer).__name__}")
        if adapter_name not in self.tmole_task_table:
            self.tmole_task_table[adapter_name] = TaskTable(tmole_config, base_layer.weight.device)
        task_table = self._table(adapter_name)
        if isinstance(target, TMoLELayer):
            target.update_layer(adapter_name, tmole_config, task_table)
            return
        layer = Linear(target, adapter_name, tmole_config, task_table)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)
        self._layers.append(layer)

    def _parts(self) -> nn.ModuleDict:
        return self.tmole_task_table


def _drop_tasks(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    return args, {name: value for name, value in kwargs.items() if name != TASKS_ARGUMENT}


def _batch_size(*args: Any, **kwargs: Any) -> int | None:
    candidates = [*args[:1], *(kwargs.get(name) for name in ("input_ids", "inputs", "inputs_embeds"))]
    return next((len(found) for found in candidates if isinstance(found, torch.Tensor)), None)
