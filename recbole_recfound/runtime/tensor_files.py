"""Tensors on disk: safetensors files, written whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from recbole_recfound.runtime.whole_file import whole_file


def tensors_digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of the names, types, sizes and values of tensors.

    Args:
        tensors: by name, from any device.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors, from any device, to a safetensors file.

    Args:
        tensors: by name.
        path: replaced when the new file is complete.

    Raises:
        OSError: the file cannot be written, such as on a full disk.
    """
    try:
        with whole_file(path) as partial:
            save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial)
    except SafetensorError as error:
        raise OSError(f"{path}: {error}") from None
