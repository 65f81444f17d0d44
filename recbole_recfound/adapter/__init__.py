"""Adapters: TMoLE as a PEFT tuner, one shared LoRA, and checks that an adapter has an effect."""

from recbole_recfound.adapter.build import accept_tasks, build_adapter, plain_weights, routing, without_adapter
from recbole_recfound.adapter.check import check_adapter, check_gradients, record_layers
from recbole_recfound.adapter.export import export_lora, save_lora
from recbole_recfound.adapter.lora import lora
from recbole_recfound.adapter.registered import ADAPTERS
from recbole_recfound.adapter.tmole import TASKS_ARGUMENT, Tasks, TMoLEConfig, TMoLEModel, checkpoint_context_fn

__all__ = [
    "ADAPTERS",
    "TASKS_ARGUMENT",
    "TMoLEConfig",
    "TMoLEModel",
    "Tasks",
    "accept_tasks",
    "build_adapter",
    "check_adapter",
    "check_gradients",
    "checkpoint_context_fn",
    "export_lora",
    "lora",
    "plain_weights",
    "record_layers",
    "routing",
    "save_lora",
    "without_adapter",
]
