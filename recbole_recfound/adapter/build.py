"""A common interface to put any adapter on a backbone and to route its forwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from peft import PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel

from recbole_recfound.adapter.registered import ADAPTERS
from recbole_recfound.adapter.shared import adapting
from recbole_recfound.adapter.tmole import TASKS_ARGUMENT, Tasks, TMoLEModel
from recbole_recfound.runtime.options import parameters_of


def build_adapter(
    backbone: PreTrainedModel, kind: str = "tmole", tasks: Mapping[str, str] | None = None, **options: Any
) -> PeftModel:
    """Freeze a backbone and put an adapter on it.

    All kinds have the same interface: `model(..., tmole_tasks=[...])`, `model.generate(..., tmole_tasks=[...])` or any
    part of the backbone inside `with routing(model, tasks):`. A shared LoRA ignores the tasks.

    Args:
        backbone: the model to adapt, in place.
        kind: one of `ADAPTERS`: "tmole", or "lora" (one LoRA for all tasks, the ablation).
        tasks: kinds by task name, in the order of the task table's rows; ignored by an adapter without a task table.
        options: fields of the adapter's PEFT configuration; both default to r 16, alpha 64, dropout .1 on q, k, v and
            o.

    Raises:
        ConfigError: unknown kind.
        ValueError: an option that is out of range.
        TypeError: an option the configuration does not have.
    """
    configuration = ADAPTERS[kind]
    options.setdefault("task_type", "CAUSAL_LM" if backbone.can_generate() else "FEATURE_EXTRACTION")
    if tasks is not None and {"task_names", "task_kinds"} <= set(parameters_of(configuration)):
        options |= {"task_names": list(tasks), "task_kinds": list(tasks.values())}
    with adapting():
        model = get_peft_model(backbone, configuration(**options))
    accept_tasks(model)
    return model


def accept_tasks(model: PeftModel) -> None:
    """Let any PEFT model take `tmole_tasks`, TMoLE or not. `build_adapter` does it; needed after `from_pretrained`."""
    model.special_peft_forward_args.add(TASKS_ARGUMENT)


def routing(model: PeftModel, tasks: Tasks) -> AbstractContextManager[None]:
    """Return a context in which the rows of every forward of `model`, or of a part of its backbone, belong to `tasks`.

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

    PEFT makes every adapter trainable when it is enabled again, even one that must remain frozen.
    """
    trained = [(weight, weight.requires_grad) for weight in model.parameters()]
    try:
        with model.disable_adapter():
            yield
    finally:
        for weight, flag in trained:
            weight.requires_grad_(flag)


def plain_weights(part: nn.Module) -> list[nn.Parameter]:
    """Return the weights of a part of an adapted backbone that are the backbone's own.

    Args:
        part: modules of the backbone, with or without an adapter.
    """
    layers = [module for module in part.modules() if isinstance(module, BaseTunerLayer)]
    adapted = {id(weight) for layer in layers for weight in layer.parameters()}
    own = {id(weight) for layer in layers for weight in layer.get_base_layer().parameters()}
    return [weight for weight in part.parameters() if id(weight) not in adapted - own]
