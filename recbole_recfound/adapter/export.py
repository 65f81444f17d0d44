"""One task of a TMoLE adapter as a plain LoRA that stock PEFT, or any LoRA server, can load."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig, PeftModel
from peft.utils import ModulesToSaveWrapper
from safetensors.torch import save_file

from recbole_recfound.adapter.tmole import TMoLEConfig, TMoLELayer


def export_lora(
    model: PeftModel, task: int | str, adapter_name: str = "default"
) -> tuple[LoraConfig, dict[str, torch.Tensor]]:
    """Fold the router into the experts that a task opens.

    Args:
        model: a PEFT model with a TMoLE adapter.
        task: id or name.
        adapter_name: which adapter.

    Returns:
        The configuration (rank R = r * open experts, alpha R, so scaling 1) and the state dict of a LoRA whose outputs
        equal the adapter's for this task. Load it with `set_peft_model_state_dict`, or write it with `save_lora`.

    Raises:
        ValueError: no TMoLE layer has this adapter, or it does not have the task.
    """
    state: dict[str, torch.Tensor] = {}
    rank = 0
    for name, layer in model.get_base_model().named_modules():
        if not isinstance(layer, TMoLELayer) or adapter_name not in layer.tmole_lora_A:
            continue
        (task_id,) = layer.task_table[adapter_name].ids([task])
        lora_A, lora_B = layer.fold_task(adapter_name, task_id)
        rank = lora_A.shape[0]
        state[f"base_model.model.{name}.lora_A.weight"] = lora_A.contiguous()
        state[f"base_model.model.{name}.lora_B.weight"] = lora_B.contiguous()
    if not state:
        raise ValueError(f"the model has no TMoLE adapter named {adapter_name!r}")
    state |= _whole_modules(model, adapter_name)
    source = cast(TMoLEConfig, model.peft_config[adapter_name])
    config = LoraConfig(
        r=rank,
        lora_alpha=rank,
        lora_dropout=0.0,
        target_modules=source.target_modules,
        exclude_modules=source.exclude_modules,
        layers_to_transform=source.layers_to_transform,
        layers_pattern=source.layers_pattern,
        modules_to_save=source.modules_to_save,
        task_type=source.task_type,
        base_model_name_or_path=source.base_model_name_or_path,
        inference_mode=True,
    )
    return config, state


def _whole_modules(model: PeftModel, adapter_name: str) -> dict[str, torch.Tensor]:
    """Return the weights of modules that the adapter trains as a whole (`modules_to_save`), by PEFT's names."""
    return {
        f"base_model.model.{name}.{key}": weight
        for name, module in model.get_base_model().named_modules()
        if isinstance(module, ModulesToSaveWrapper) and adapter_name in module.modules_to_save
        for key, weight in module.modules_to_save[adapter_name].state_dict().items()
    }


def save_lora(config: LoraConfig, state: dict[str, torch.Tensor], folder: str | Path) -> None:
    """Write what `export_lora` returned as an adapter folder in PEFT's format (JSON and safetensors).

    Args:
        config: configuration from `export_lora`.
        state: weights by name from `export_lora`.
        folder: target; created if missing.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(str(folder))
    save_file(state, folder / "adapter_model.safetensors", metadata={"format": "pt"})
