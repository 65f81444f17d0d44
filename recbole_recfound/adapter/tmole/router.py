"""The router of a layer: from a task embedding to gates over the experts."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from recbole_recfound.adapter.tmole.functional import route
from recbole_recfound.adapter.tmole.tasks import Plan, TaskTable


class RoutedLayer:
    """Routers of all adapters on one linear map, with everything their gates depend on.

    Attributes:
        r: rank of an expert, by adapter.
        scaling: factor on an expert's output, by adapter.
        task_table: task embeddings, by adapter. A plain dict: the table belongs to the model, and registering it here
            would save it once per layer.
        tmole_router: linear map from a task embedding [D] to one score per expert [N], by adapter.
    """

    r: dict[str, int]
    scaling: dict[str, float]
    task_table: dict[str, TaskTable]
    tmole_router: nn.ModuleDict

    def router_of(self, adapter_name: str) -> nn.Linear:
        """Return the router of one adapter."""
        return cast(nn.Linear, self.tmole_router[adapter_name])

    def gate(self, adapter_name: str, plan: Plan) -> torch.Tensor:
        """Return the gate [K, n] of the plan's experts for each of its tasks.

        Args:
            adapter_name: name of the adapter.
            plan: of a batch with K distinct tasks and n experts that are open to any of them.
        """
        router = self.router_of(adapter_name)
        embedding = self.task_table[adapter_name](plan)
        return route(embedding, router.weight[plan.experts], router.bias[plan.experts], plan.open_experts)

    def gate_state(self, adapter_name: str) -> tuple[Any, ...]:
        """Return what a gate depends on: identity, version and `requires_grad` of its weights, and the scaling."""
        router, table = self.router_of(adapter_name), self.task_table[adapter_name]
        weights = router.weight, router.bias, table.weight
        # Tensors made under inference_mode have no version counter.
        versions = (0 if weight.is_inference() else weight._version for weight in weights)
        trained = (weight.requires_grad for weight in weights)
        return *map(id, weights), *versions, *trained, self.scaling[adapter_name]

    def gate_form(self, adapter_name: str) -> tuple[Any, ...] | None:
        """Return what layers must share for their gates to be computed together; None without the adapter."""
        if adapter_name not in self.tmole_router:
            return None
        weight = self.router_of(adapter_name).weight
        return weight.shape, weight.dtype, weight.device, self.scaling[adapter_name], self.r[adapter_name]
