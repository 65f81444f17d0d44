"""Loading a causal language model: the bundled one, a hub name or a local folder."""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from recbole_recfound.backbone.bundled import BUNDLED, bundled_folder
from recbole_recfound.backbone.quantized import quantization
from recbole_recfound.errors import BackboneError, in_one_line
from recbole_recfound.runtime.device import is_gpu
from recbole_recfound.runtime.run_folder import digests_of

CONTENT = (".safetensors", ".json", ".jinja", ".model", ".txt")
"""Endings of the files of weights, configuration and tokenizer."""


@dataclass(frozen=True)
class Backbone:
    """A frozen language model with its tokenizer.

    Attributes:
        model: causal LM, `requires_grad` off everywhere, in `eval()`.
        tokenizer: its tokenizer, with a pad token.
        name: name or folder as configured.
        fingerprint: short hash of all weights, tokenizer and chat template; caches and adapters are tied to it.
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


def backbone_content(name: str) -> dict[str, str]:
    """Return what tells a backbone from others of its name: digests of a folder's files, or the hub's revision.

    Args:
        name: as for `load_backbone`. Of the bundled one nothing: its package checks it.

    Raises:
        BackboneError: not found, not readable, or not a causal LM.
    """
    if name == BUNDLED:
        return {}
    if not Path(name).is_dir():
        return {name: str(getattr(load_configuration(name), "_commit_hash", None))}
    files = [file for file in sorted(Path(name).iterdir()) if file.suffix in CONTENT]
    return digests_of({str(file.resolve()): file for file in files})


def load_backbone(
    name: str, device: torch.device, dtype: torch.dtype = torch.float32, bits: int | None = None
) -> Backbone:
    """Load a causal LM and its tokenizer and freeze it.

    Args:
        name: `smollm2-135m-instruct` (bundled), a hub name, or a local folder.
        device: where the weights go.
        dtype: of the frozen weights; adapters are always float32.
        bits: of the frozen weights of linear maps, 4 or 8; None: as `dtype` says.

    Raises:
        ConfigError: `bits` needs a package that is missing.
        BackboneError: not installed, not found, not a causal LM, without some of its weights, or without decoder layers
            we can reach.
    """
    source = resolve(name)
    config = load_configuration(name)
    tokenizer = load_tokenizer(name)
    with in_one_line(f"backbone '{name}' cannot be loaded", BackboneError):
        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source,
                dtype=dtype,
                trust_remote_code=False,
                use_safetensors=True,  # a pickle is never opened
                attn_implementation=_attention(device),
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # the report names them
                **(quantization(bits, device, dtype) if bits else {}),
            )
        except (ImportError, RuntimeError) as error:  # of bitsandbytes, where it has no code for a device
            if not bits:
                raise
            raise BackboneError(f"backbone_bits: {bits} cannot run on {device}: {_first_line(error)}") from error
    model: PreTrainedModel = loaded[0]
    _check_weights(name, model, report=loaded[1])
    for part, what in (("layers", "decoder layers"), ("embed_tokens", "token embeddings")):
        if not hasattr(model.base_model, part):
            raise BackboneError(
                f"backbone '{name}' ({config.model_type}) has no {what} under .{part}, as Llama, Mistral and Qwen have"
            )
    # A key-value cache is useless in training and costs memory; generation enables it itself.
    model.config.use_cache = False
    model.requires_grad_(False).eval()
    if not bits:
        model.to(device)  # type: ignore[arg-type]  # its decorator hides what it takes
    return Backbone(model, tokenizer, name, fingerprint(model, tokenizer))


def _check_weights(name: str, model: PreTrainedModel, report: Mapping[str, Collection[Any]]) -> None:
    """Check that all weights come from the files: others have random values, or are quantised in an unknown way.

    Args:
        name: of the backbone.
        model: as loaded.
        report: of `from_pretrained`; weights that are tied or made by the model itself are not among the missing ones.

    Raises:
        BackboneError: names the first of them.
    """
    for key, what in (("missing_keys", "are missing"), ("mismatched_keys", "have other shapes than in config.json")):
        # Of other shapes the report has (name, shape in the file, shape in the model).
        names = sorted(found if isinstance(found, str) else found[0] for found in report[key])
        if names:
            first = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            raise BackboneError(
                f"backbone '{name}': {len(names):,} of its weights {what} ({first}): get its files again, all from one "
                "model"
            )
    quantized = getattr(model.config, "quantization_config", None)
    if isinstance(quantized, dict):  # transformers reads those that it knows into a class
        raise BackboneError(
            f"backbone '{name}': its weights are quantised as {quantized.get('quant_method')!r}, which transformers "
            "does not know: take weights of 16 or 32 bits"
        )


def load_configuration(name: str) -> PretrainedConfig:
    """Load the configuration of a causal LM, without its weights.

    Args:
        name: as for `load_backbone`.

    Raises:
        BackboneError: not found, not readable, or not a causal LM.
    """
    source = resolve(name)
    subject = f"config.json of backbone '{name}' cannot be read"
    if not Path(source, "config.json").is_file():
        hint = "a local folder, a hub name that this machine can reach, or '" + BUNDLED + "'"
        subject = f"backbone '{name}' not found (give {hint})"
    with in_one_line(subject, BackboneError):
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise BackboneError(f"backbone '{name}' is a {config.model_type} model, not a causal language model")
    return config


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a causal LM; it gets a pad token if it has none.

    Args:
        name: as for `load_backbone`.

    Raises:
        BackboneError: not found, not readable, or with neither a pad nor an end token.
    """
    with in_one_line(f"the tokenizer of backbone '{name}' cannot be loaded", BackboneError):
        tokenizer = AutoTokenizer.from_pretrained(resolve(name), trust_remote_code=False)
    if tokenizer.pad_token_id is None:
        check_end(name, tokenizer)
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def check_end(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer without an end token, which ends an answer and stands for an empty text.

    Args:
        name: of the backbone.
        tokenizer: its own.

    Raises:
        BackboneError: there is none.
    """
    if tokenizer.eos_token_id is None:
        raise BackboneError(
            f"the tokenizer of backbone '{name}' has no end token, which ends an answer and fills the padding: name it "
            "as eos_token in tokenizer_config.json"
        )


def fingerprint(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash everything that decides the tokens and vectors of a text: all weights, the tokenizer and its chat template.

    Weights count as bfloat16, so that the number format of a run makes no other backbone of them. Of a quantised model,
    the weights that stay as they are count, and the number of bits.

    Args:
        model: causal LM.
        tokenizer: its tokenizer.
    """
    digest, parameters = hashlib.sha256(), dict(model.named_parameters())
    quantized = getattr(model.config, "quantization_config", None)
    if quantized is not None:
        digest.update(str(quantized.quantization_method()).encode())
    for key, weight in sorted(model.state_dict().items()):
        if quantized is None or (key in parameters and parameters[key].is_floating_point()):
            digest.update(f"{key}{tuple(weight.shape)}{weight_sum(weight)}".encode())
    for part in _tokenizer_parts(tokenizer):
        digest.update(json.dumps(part, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:16]


BLOCK = 1 << 22
"""Weights that are hashed at a time."""


def weight_sum(weight: torch.Tensor) -> int:
    """Return a sum over all values of a tensor, each with a factor of its place, so that any change changes it.

    It is computed where the tensor lies, in whole numbers that wrap around: the same on every device.

    Args:
        weight: any shape; rounded to bfloat16.
    """
    flat = weight.detach().reshape(-1)
    total = torch.zeros((), dtype=torch.int64, device=flat.device)
    for start in range(0, flat.numel(), BLOCK):
        block = flat[start : start + BLOCK].to(torch.bfloat16).view(torch.int16).to(torch.int64) + 40_000
        places = torch.arange(start, start + len(block), device=flat.device)
        factors = (places * 0x5851F42D4C957F2D + 0x14057B7EF767814F) | 1
        total += (block * factors).sum()
    return int(total)


def _tokenizer_parts(tokenizer: PreTrainedTokenizerBase) -> list[Any]:
    """Return what decides the tokens of a text, without the settings of single calls (padding, truncation)."""
    parts: list[Any] = [tokenizer.get_vocab(), tokenizer.special_tokens_map, tokenizer.chat_template]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        whole = json.loads(backend.to_str())
        parts.append({name: whole.get(name) for name in ("model", "normalizer", "pre_tokenizer", "post_processor")})
    return parts


def _attention(device: torch.device) -> str | None:
    """Return the attention kernel; on CPUs the fused one is slower in backward (bf16, 100-300 tokens: 1.15x a step).

    None lets transformers take the fused kernel (`sdpa`) where the model has it, and `eager` elsewhere: Gemma 2, which
    bounds its attention logits, has none.
    """
    return None if is_gpu(device) else "eager"


def _first_line(error: Exception) -> str:
    """Return the first line of a message; those of bitsandbytes go on for pages."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
