"""One way to put an adapter on a backbone and to route its forwards, whatever the adapter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from .tmole import TASKS_ARGUMENT, Tasks, TMoLEConfig, TMoLEModel

#: Adapters a model can be built with: TMoLE, or one plain LoRA shared by all tasks (the ablation).
ADAPTERS = {"tmole": TMoLEConfig, "lora": LoraConfig}

_LORA_DEFAULTS = {
    "r": 16,
    "lora_alpha": 64,
    "lora_dropout": 0.1,
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"],
}


def build_adapter(backbone: PreTrainedModel, kind: str = "tmole", **options: Any) -> PeftModel:
    """Freeze a backbone and put an adapter on it.

    Both kinds are called alike: `model(..., tmole_tasks=[...])`, `model.generate(..., tmole_tasks=[...])` or any part
    of the backbone inside `with routing(model, tasks):`. The shared LoRA ignores the tasks.

    Args:
        backbone: the model to adapt, in place.
        kind: "tmole" or "lora".
        options: fields of `TMoLEConfig` or `LoraConfig`; both default to r 16, alpha 64, dropout .1 on q, k, v and o.

    Raises:
        ValueError: unknown kind, or an option that is out of range.
        TypeError: an option the configuration does not have.
    """
    if kind not in ADAPTERS:
        raise ValueError(f"unknown adapter {kind!r}: use one of {', '.join(ADAPTERS)}")
    defaults = {"task_type": "CAUSAL_LM" if backbone.can_generate() else "FEATURE_EXTRACTION"}
    if kind == "lora":
        defaults |= _LORA_DEFAULTS
    model = get_peft_model(backbone, ADAPTERS[kind](**(defaults | options)))
    accept_tasks(model)
    return model


def accept_tasks(model: PeftModel) -> None:
    """Let any PEFT model take `tmole_tasks`, TMoLE or not. `build_adapter` does it; needed after `from_pretrained`."""
    model.special_peft_forward_args.add(TASKS_ARGUMENT)


def routing(model: PeftModel, tasks: Tasks) -> AbstractContextManager[None]:
    """Context in which the rows of every forward of `model`, or of a part of its backbone, belong to `tasks`.

    Args:
        model: a model of `build_adapter`; for a shared LoRA the context does nothing.
        tasks: a task id or name for all rows of any batch, or a list with one per row.

    Raises:
        ValueError: a task the adapter does not have.
    """
    tuner = model.base_model
    return tuner.routing(tasks) if isinstance(tuner, TMoLEModel) else nullcontext()


@contextmanager
def without_adapter(model: PeftModel) -> Iterator[None]:
    """Run the plain backbone; what was frozen stays frozen.

    PEFT makes every adapter trainable when it switches it on again, also one that must not learn.
    """
    trained = [(weight, weight.requires_grad) for weight in model.parameters()]
    try:
        with model.disable_adapter():
            yield
    finally:
        for weight, flag in trained:
            weight.requires_grad_(flag)
