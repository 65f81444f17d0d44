"""Loading a causal language model: the bundled one, a hub name or a local folder."""

import hashlib
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from recbole_recfound.backbone.bundled import BUNDLED, bundled_folder
from recbole_recfound.errors import BackboneError
from recbole_recfound.runtime.device import is_gpu


@dataclass(frozen=True)
class Backbone:
    """A frozen language model with its tokenizer.

    Attributes:
        model: causal LM, `requires_grad` off everywhere, in `eval()`.
        tokenizer: its tokenizer, with a pad token.
        name: name or folder as configured.
        fingerprint: short hash of the configuration and a sample of the weights; caches and adapters are tied to it.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    fingerprint: str

    @property
    def context(self) -> int:
        """Maximum context in tokens, from the configuration; unlimited if it has none."""
        return getattr(self.model.config, "max_position_embeddings", None) or 1 << 30


def resolve(name: str) -> str:
    """Turn the name a user typed into something `from_pretrained` takes."""
    return str(bundled_folder()) if name == BUNDLED else name


def load_backbone(name: str, device: torch.device, dtype: torch.dtype = torch.float32) -> Backbone:
    """Load a causal LM and its tokenizer and freeze it.

    Args:
        name: `smollm2-135m-instruct` (bundled), a hub name, or a local folder.
        device: where the weights go.
        dtype: of the frozen weights; adapters are always float32.

    Raises:
        BackboneError: not installed, not found, not a causal LM, or without decoder layers we can reach.
    """
    source = resolve(name)
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        hint = "a local folder, a hub name that this machine can reach, or '" + BUNDLED + "'"
        raise BackboneError(f"backbone '{name}' not found (give {hint}): {_first_line(error)}") from None
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise BackboneError(f"backbone '{name}' is a {config.model_type} model, not a causal language model")
    tokenizer = load_tokenizer(name)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, trust_remote_code=False, attn_implementation=_attention(device)
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise BackboneError(f"backbone '{name}' cannot be loaded: {_first_line(error)}") from None
    for part, what in (("layers", "decoder layers"), ("embed_tokens", "token embeddings")):
        if not hasattr(model.base_model, part):
            raise BackboneError(
                f"backbone '{name}' ({config.model_type}) has no {what} under .{part}, as Llama, Mistral and Qwen have"
            )
    # A key-value cache is useless in training and costs memory; generation enables it itself.
    model.config.use_cache = False
    model.requires_grad_(False).eval().to(device)
    return Backbone(model, tokenizer, name, fingerprint(model))


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a causal LM; it gets a pad token if it has none.

    Args:
        name: as for `load_backbone`.

    Raises:
        BackboneError: not found.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(resolve(name), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise BackboneError(f"the tokenizer of backbone '{name}' cannot be loaded: {_first_line(error)}") from None
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def fingerprint(model: PreTrainedModel) -> str:
    """Hash the shape-giving configuration and a strided sample of every weight of `model`."""
    digest = hashlib.sha256()
    for key, weight in sorted(model.state_dict().items()):
        flat = weight.detach().reshape(-1)
        sample = flat[:: max(1, flat.numel() // 64)].cpu().float()
        digest.update(f"{key}{tuple(weight.shape)}".encode())
        digest.update(sample.to(torch.bfloat16).float().numpy().tobytes())
    return digest.hexdigest()[:16]


def _attention(device: torch.device) -> str:
    """Return the attention kernel; on CPUs the fused one is slower in backward (bf16, 100-300 tokens: 1.15x a step)."""
    return "sdpa" if is_gpu(device) else "eager"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
