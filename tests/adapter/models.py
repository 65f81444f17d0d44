"""Tiny random backbones of the families users bring, made on the spot."""

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from recbole_recfound.adapter import build_adapter
from recbole_recfound.data.task import task_table

FAMILIES = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 61,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
TABLE = {"task_names": list(task_table()), "task_kinds": list(task_table().values())}
SMALL_OPTION = {"prompts": 5, "classes": 2, "bottleneck": 4, "init_weights": False}
SMALL = {"r": 4, "lora_alpha": 8, "task_dim": 16, "init_weights": False} | TABLE


def tiny_backbone(family: str = "llama", **changes) -> PreTrainedModel:
    config_class, model_class = FAMILIES[family]
    torch.manual_seed(0)
    return model_class(config_class(**(SIZES | changes))).eval()


def tiny_model(family: str = "llama", **options):
    """A backbone with a TMoLE adapter whose B is not zero, in eval mode."""
    backbone = tiny_backbone(family)
    torch.manual_seed(1)
    return build_adapter(backbone, **(SMALL | options)).eval()


def tokens(rows: int = 4, length: int = 6, seed: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, 61, (rows, length), generator=generator)


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max().clamp_min(1e-12)).item()
