"""Checks that an adapter takes part: an adapter without effect trains nothing, and nothing else would report it.

A wrong keyword, a lost hook or an unpatched checkpoint leaves the backbone's output, with a loss that looks healthy.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from recbole_recfound.adapter.build import routing, without_adapter
from recbole_recfound.adapter.tmole import TMoLELayer, TMoLEModel
from recbole_recfound.errors import TrainingError


@torch.no_grad()
def check_adapter(
    model: PeftModel, run: Callable[[], torch.Tensor], tasks: Sequence[int | str], adapter_name: str = "default"
) -> None:
    """Check at start-up that the adapter changes the output, and that the task does, with B perturbed.

    B is restored exactly, the random state is unchanged.

    Args:
        model: the adapted model.
        run: runs the model, or the part of it that will be trained, on one small batch and returns a tensor. It must
            not set a route of its own.
        tasks: at least one task per kind used; all must give different outputs (a shared LoRA is only compared with
            the backbone).
        adapter_name: which adapter.

    Raises:
        TrainingError: the output equals the backbone's, or two tasks give the same one.
    """
    was_training = model.training
    model.eval()
    try:
        with without_adapter(model):
            plain = run()
        with _perturbed(model, adapter_name):
            outputs = {}
            for task in tasks:
                with routing(model, task):
                    outputs[task] = run()
    finally:
        model.train(was_training)
    silent = [task for task, output in outputs.items() if torch.equal(output, plain)]
    if silent:
        raise TrainingError(f"the adapter has no effect: task {silent[0]!r} gives the backbone's output")
    if not isinstance(model.base_model, TMoLEModel):
        return
    for first, second in combinations(outputs, 2):
        if torch.equal(outputs[first], outputs[second]):
            raise TrainingError(f"the route has no effect: tasks {first!r} and {second!r} give the same output")


@contextmanager
def record_layers(model: PeftModel) -> Iterator[set[str]]:
    """Collect the names of the layers that run inside the block with their adapter, for `check_gradients`."""
    ran: set[str] = set()

    def note(name: str) -> Callable[..., None]:
        def hook(layer: Any, *_: Any) -> None:
            if not layer.disable_adapters:
                ran.add(name)

        return hook

    hooks = [layer.register_forward_hook(note(name)) for name, layer in _adapted_layers(model)]
    try:
        yield ran
    finally:
        for hook in hooks:
            hook.remove()


def check_gradients(model: PeftModel, layers: Collection[str] | None = None, adapter_name: str = "default") -> None:
    """Check after the first backward that every adapted layer's B has a non-zero gradient.

    (A's is zero as long as B is: only B shows whether a layer learns.)

    Args:
        model: the adapted model, gradients in place.
        layers: names of the layers that took part (see `record_layers`); all when None.
        adapter_name: which adapter.

    Raises:
        TrainingError: naming the layers without a gradient.
    """
    found = [
        (name, _lora_B(layer, adapter_name).grad)
        for name, layer in _adapted_layers(model)
        if layers is None or name in layers
    ]
    silent = [name for name, grad in found if grad is None]
    present = [(name, grad) for name, grad in found if grad is not None]
    if present:
        # One read-back for all layers.
        largest = torch.stack([grad.detach().abs().amax().float() for _, grad in present]).tolist()
        silent += [name for (name, _), value in zip(present, largest, strict=True) if value == 0]
    if silent or not found:
        first = ", ".join(sorted(silent)[:3]) or "any adapted layer (none ran)"
        more = f" and {len(silent) - 3} more layers" if len(silent) > 3 else ""
        raise TrainingError(
            f"adapter: no gradient reached {first}{more}: the layers do not run, or no loss depends on them. Embedding "
            "examples need negatives: raise batch_args: contrastive or hard_negatives, or add neg to the records"
        )


def _adapted_layers(model: PeftModel) -> list[tuple[str, Any]]:
    # PEFT's layers are nn.Modules and BaseTunerLayers at once, which no type says.
    modules = model.get_base_model().named_modules()
    return [(name, module) for name, module in modules if isinstance(module, BaseTunerLayer)]


def _lora_B(layer: Any, adapter_name: str) -> nn.Parameter:
    return layer.tmole_lora_B[adapter_name] if isinstance(layer, TMoLELayer) else layer.lora_B[adapter_name].weight


@contextmanager
def _perturbed(model: PeftModel, adapter_name: str) -> Iterator[None]:
    """Replace every B by noise for a block, then put the old values back bit by bit."""
    weights = [_lora_B(layer, adapter_name) for _, layer in _adapted_layers(model)]
    saved = [weight.detach().clone() for weight in weights]
    try:
        for index, weight in enumerate(weights):
            generator = torch.Generator(device=weight.device).manual_seed(index)
            weight.normal_(generator=generator)
        yield
    finally:
        for weight, old in zip(weights, saved, strict=True):
            weight.copy_(old)
