"""Frozen weights in 4 or 8 bits, by bitsandbytes (QLoRA, arXiv 2305.14314)."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.device import is_gpu

PACKAGE = "bitsandbytes"


def check_bits(bits: int | None) -> None:
    """Refuse other numbers of bits, and any where the package is missing, before anything is loaded.

    Args:
        bits: `backbone_bits`; None: no quantisation.

    Raises:
        ConfigError: says what is possible, or what to install.
    """
    if bits not in (None, 4, 8):
        raise ConfigError(f"backbone_bits: got {bits}, expected 4, 8 or nothing")
    if bits and find_spec(PACKAGE) is None:
        raise ConfigError(f'backbone_bits: {bits} needs the package {PACKAGE}: pip install "recbole_recfound[qlora]"')


def check_training(bits: int | None, device: torch.device) -> None:
    """Refuse to train over 4-bit weights where bitsandbytes gives no gradients.

    Args:
        bits: `backbone_bits`.
        device: of the training.

    Raises:
        ConfigError: 4 bits on a CPU, where an evaluation repacks the weights for inference.
    """
    if bits == 4 and not is_gpu(device):
        raise ConfigError("backbone_bits: 4 cannot be trained on a CPU, where bitsandbytes gives no gradients: 8 can")
    check_bits(bits)


def quantization(bits: int, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` for a quantised model on a device.

    Args:
        bits: 4 (NF4, with quantised constants) or 8.
        device: where the weights go; they are quantised there.
        dtype: in which products are computed.
    """
    config = BitsAndBytesConfig(
        load_in_4bit=bits == 4,
        load_in_8bit=bits == 8,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": config, "device_map": {"": device}}
