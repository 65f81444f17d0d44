"""Gates of all layers, computed together once per forward.

A router reads the task embedding and nothing of the layer's input, so every gate of a forward is known before its first
layer runs. Computed layer by layer, gates are a dozen small operations beside two products; on a GPU, where starting
an operation costs more than these take, that is most of what TMoLE adds to plain LoRA. Here they are one product over
all routers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from recbole_recfound.adapter.tmole.functional import route, spread
from recbole_recfound.adapter.tmole.router import RoutedLayer
from recbole_recfound.adapter.tmole.tasks import Plan


class ForwardGates:
    """Gates of one adapter for one forward; each layer takes its gate once.

    Args:
        layers: those of a model; gates are computed for those that have the adapter with the same shape as `first`.
        first: the layer that runs first.
        adapter_name: the adapter.
        plan: of the batch.
        dtype: of the gates, where they differ from row to row; one gate for all rows is float32.
    """

    def __init__(
        self, layers: Sequence[RoutedLayer], first: RoutedLayer, adapter_name: str, plan: Plan, dtype: torch.dtype
    ) -> None:
        self.adapter_name, self.plan, self.with_gradient = adapter_name, plan, torch.is_grad_enabled()
        form = first.gate_form(adapter_name)
        known = [layer for layer in layers if layer.gate_form(adapter_name) == form]
        # A route may know no layers: a checkpoint's, or one made for a single layer.
        alike = known if any(layer is first for layer in known) else [first]
        routers = [layer.tmole_router[adapter_name] for layer in alike]
        table = first.task_table[adapter_name]
        gates = _Gates.apply(
            table.weight,
            plan,
            first.scaling[adapter_name],
            first.r[adapter_name],
            torch.float32 if plan.rows is None else dtype,
            *(router.weight for router in routers),
            *(router.bias for router in routers),
        )
        self._left = {
            id(layer): (gate, layer.gate_state(adapter_name)) for layer, gate in zip(alike, gates, strict=True)
        }

    def take(self, layer: RoutedLayer, plan: Plan) -> Tensor | None:
        """Return a layer's gate [B or 1, n * r] times its scaling; None if it has to be recomputed.

        Gates are recomputed if a layer takes its gate twice (a second forward), if its weights have changed, or if it
        needs a gradient that was not recorded: the last two can happen after a forward through the first layers alone.
        Writes through `.data` cannot be detected.

        Args:
            layer: the adapted layer.
            plan: of the current batch.
        """
        if plan is not self.plan or torch.is_grad_enabled() != self.with_gradient:
            return None
        gate, state = self._left.pop(id(layer), (None, None))
        return gate if state == layer.gate_state(self.adapter_name) else None


class _Gates(torch.autograd.Function):
    """Map the task table [T, D] and the routers of L layers to L gates [B or 1, n * r], times scaling.

    A layer that did not run gets no gradient (rather than zeros), as if its gate had never been computed: an
    optimiser with momentum then leaves it alone.
    """

    @staticmethod
    def forward(
        ctx: Any, table: Tensor, plan: Plan, scaling: float, r: int, dtype: torch.dtype, *routers: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        count, embedding = len(routers) // 2, table[plan.tasks].view(-1, table.shape[1]).float()
        weight = torch.stack(routers[:count])[:, plan.experts].float()
        gate = route(embedding, weight, torch.stack(routers[count:])[:, plan.experts], plan.open_experts).transpose(
            0, 1
        )
        ctx.plan, ctx.scaling, ctx.r, ctx.all_experts = plan, scaling, r, routers[0].shape[0]
        ctx.table_shape, ctx.dtypes = table.shape, (table.dtype, routers[0].dtype)
        # Copies outside of autograd's saved tensors: other layers may need the remaining gates after a first backward.
        ctx.embedding, ctx.weight, ctx.gate = embedding.clone(), weight, gate
        each = gate if plan.rows is None else gate.index_select(1, plan.rows)
        return spread(each, scaling, r * each.shape[-1]).to(dtype).unbind(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        present = {number: gradient for number, gradient in enumerate(gradients) if gradient is not None}
        ran = list(present)
        count, plan = len(gradients), ctx.plan
        if not ran:
            return (None,) * (5 + 2 * count)
        weight, gate = ctx.weight, ctx.gate
        if len(ran) < count:
            index = torch.tensor(ran, device=gate.device)
            weight, gate = weight.index_select(0, index), gate.index_select(0, index)
        with torch.autocast(gate.device.type, enabled=False):
            # For the U layers that ran [U, B, n] and, summed over the rows of each task, [U, K, n]
            found = torch.stack(list(present.values())).unflatten(-1, (-1, ctx.r)).sum(-1, dtype=torch.float32)
            if plan.rows is not None:
                # A product, since a scattered sum adds in any order on a GPU.
                of_task = plan.rows == torch.arange(gate.shape[1], device=gate.device).unsqueeze(1)
                found = of_task.float() @ found
            scores = gate * found * ctx.scaling
            scores = scores - gate * scores.sum(-1, keepdim=True)
            embedding = scores.transpose(0, 1).flatten(1) @ weight.flatten(0, 1)
            around = (plan.experts.start, ctx.all_experts - plan.experts.stop)
            weights = F.pad(scores.transpose(1, 2) @ ctx.embedding, (0, 0, *around)).to(ctx.dtypes[1])
            biases = F.pad(scores.sum(1), around).to(ctx.dtypes[1])
        own: list[Tensor | None] = [None] * (2 * count)
        for number, of_weight, of_bias in zip(ran, weights.unbind(0), biases.unbind(0), strict=True):
            own[number], own[count + number] = of_weight, of_bias
        of_table = gate.new_zeros(ctx.table_shape, dtype=ctx.dtypes[0])
        of_table[plan.tasks] = (embedding if plan.rows is not None else embedding[0]).to(of_table.dtype)
        return of_table, None, None, None, None, *own
