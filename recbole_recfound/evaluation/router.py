"""Similarity of the tasks' routing (RecFound section 7, router similarity)."""

from collections.abc import Sequence

import torch
from peft import PeftModel
from torch.nn import functional as F

from recbole_recfound.adapter.tmole import TMoLELayer


@torch.no_grad()
def router_similarity(adapted: PeftModel, tasks: Sequence[str], adapter_name: str = "default") -> list[list[float]]:
    """Return the cosine similarity of the tasks' gates (closed experts are zero), averaged over all adapted layers.

    Args:
        adapted: a backbone with TMoLE.
        tasks: task names.
        adapter_name: which adapter.

    Returns:
        A symmetric matrix with ones on its diagonal, in the order of `tasks`; [] without TMoLE layers.
    """
    layers = [module for module in adapted.modules() if isinstance(module, TMoLELayer)]
    if not layers:
        return []
    total = torch.zeros(len(tasks), len(tasks), device=layers[0].tmole_lora_A[adapter_name].device)
    for layer in layers:
        gates = F.normalize(_gates(layer, adapter_name, tasks), dim=-1)
        total += gates @ gates.T
    return (total / len(layers)).clamp(0, 1).tolist()


def _gates(layer: TMoLELayer, adapter_name: str, tasks: Sequence[str]) -> torch.Tensor:
    """Return the gates [tasks, N] of one layer over all experts."""
    table, device = layer.task_table[adapter_name], layer.tmole_lora_A[adapter_name].device
    gates = torch.zeros(len(tasks), layer.router_of(adapter_name).out_features, device=device)
    for row, task in enumerate(tasks):
        plan = table.plan(table.ids((task,)), device)
        gates[row, plan.experts] = layer.gate(adapter_name, plan)[0]
    return gates
