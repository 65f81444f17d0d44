"""The adapter of one task as an ordinary LoRA, and the backbone with it merged in."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from transformers import PreTrainedModel

from recbole_recfound.adapter import export_lora, save_lora
from recbole_recfound.adapter.shared import adapting
from recbole_recfound.adapter.tmole import TMoLEModel
from recbole_recfound.backbone import load_backbone
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.recfound import RecFound
from recbole_recfound.model.saved import SavedModel
from recbole_recfound.serving.export.exported import Exported


def lora_of(model: RecFound, task: str) -> tuple[LoraConfig, dict[str, torch.Tensor]]:
    """Return the adapter of a task as a LoRA: configuration and weights.

    Args:
        model: RecFound.
        task: of the run.

    Raises:
        ConfigError: the run has an adapter that is neither TMoLE nor a LoRA.
    """
    adapted = model.backbone
    if isinstance(adapted.base_model, TMoLEModel):
        return export_lora(adapted, task)
    config = adapted.peft_config["default"]
    if not isinstance(config, LoraConfig):
        raise ConfigError(f"export: an adapter of type {config.peft_type} cannot be written as a LoRA")
    return config, get_peft_model_state_dict(adapted)


def merged_backbone(saved: SavedModel, model: RecFound, task: str) -> PreTrainedModel:
    """Load the backbone again, in float32, and add the adapter of a task to its weights; on the host.

    Args:
        saved: the files of the run, which name the backbone.
        model: RecFound.
        task: of the run.
    """
    config, weights = lora_of(model, task)
    plain = load_backbone(saved.backbone.name, model.device).model
    with adapting():
        adapted = get_peft_model(plain, config)
    set_peft_model_state_dict(adapted, weights)
    merged = cast(PreTrainedModel, adapted.merge_and_unload())
    merged.config.use_cache = True
    return cast(PreTrainedModel, merged.eval().cpu())


def export_peft(run: Exported, task: str, folder: Path) -> str:
    """Write a task's adapter as a LoRA that stock PEFT loads.

    Args:
        run: what is exported.
        task: of the run.
        folder: to fill.
    """
    saved, model = run.saved, run.model
    config, weights = lora_of(model, task)
    config.base_model_name_or_path = saved.backbone.name
    config.inference_mode = True
    save_lora(config, {name: weight.detach().cpu() for name, weight in weights.items()}, folder)
    return f"""An ordinary LoRA of rank {config.r}: the experts that the task opens, with their router folded in.

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

backbone = AutoModelForCausalLM.from_pretrained("{saved.backbone.name}")  # the backbone of the run, or its folder
model = PeftModel.from_pretrained(backbone, "PATH OF THIS FOLDER")
```

The tasks that embed texts read them in both directions (`config.is_causal = False`).
"""


def export_merged(run: Exported, task: str, folder: Path) -> str:
    """Write the backbone with a task's adapter added to its weights, and the tokenizer.

    Args:
        run: what is exported.
        task: of the run.
        folder: to fill.
    """
    saved, model = run.saved, run.model
    merged_backbone(saved, model, task).save_pretrained(folder)
    saved.backbone.tokenizer.save_pretrained(folder)
    template = saved.collator.templates.get(task)
    prompt = "" if template is None else f"\nThe prompt of {task} in the training:\n\n```\n{template.text}\n```\n"
    return f"""A causal language model for any server of Hugging Face models, without adapter:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("PATH OF THIS FOLDER")
tokenizer = AutoTokenizer.from_pretrained("PATH OF THIS FOLDER")
```
{prompt}"""
