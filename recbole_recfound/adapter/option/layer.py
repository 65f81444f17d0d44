"""An MLP with adapters in parallel."""

from __future__ import annotations

import math
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch.nn import functional as F

from recbole_recfound.adapter.option.config import OptionConfig


class OptionLayer(nn.Module, BaseTunerLayer):
    """An MLP plus `lambda * (relu(Z W1 + b1) W2 + b2)` of its input Z, for each active adapter (M6-Rec, section 4).

    Args:
        base_layer: the frozen MLP, or another tuner's layer around one.
        adapter_name: name of the first adapter.
        config: its configuration.
        width: size d of the hidden states.
    """

    adapter_layer_names = ("option_down", "option_up", "option_scale")
    other_param_names = ()

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: OptionConfig, width: int) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.width = width
        self.option_down, self.option_up = nn.ModuleDict(), nn.ModuleDict()
        self.option_scale = nn.ParameterDict()
        self.merged_adapters: list[str] = []
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, config)

    def update_layer(self, adapter_name: str, config: OptionConfig, inference_mode: bool = False) -> None:
        """Add an adapter with float32 weights on the device of the MLP.

        Args:
            adapter_name: name of the new adapter.
            config: its configuration.
            inference_mode: freeze the new weights.
        """
        if not config.bottleneck:
            return
        device = next(self.get_base_layer().parameters()).device
        down = nn.Linear(self.width, config.bottleneck, device=device, dtype=torch.float32)
        up = nn.Linear(config.bottleneck, self.width, device=device, dtype=torch.float32)
        nn.init.kaiming_uniform_(down.weight, a=math.sqrt(5))
        nn.init.zeros_(down.bias)
        if config.init_weights:
            nn.init.zeros_(up.weight)
            nn.init.zeros_(up.bias)
        self.option_down[adapter_name], self.option_up[adapter_name] = down, up
        self.option_scale[adapter_name] = nn.Parameter(torch.full((), float(config.scale), device=device))
        self.set_adapter(self.active_adapters, inference_mode=inference_mode)

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Map hidden states x [..., d]."""
        result = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters:
            return result
        for name in self.active_adapters:
            if name not in self.option_down:
                continue
            down, up = self.option_down[name], self.option_up[name]
            inner = F.relu(down(x.float()))
            result = result + (self.option_scale[name] * up(inner)).to(result.dtype)
        return result

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refuse: a non-linear map beside an MLP is no part of its weights.

        Raises:
            ValueError: always.
        """
        raise ValueError("option adapters are non-linear and cannot be merged into the backbone")

    def unmerge(self) -> None:
        """Do nothing: nothing can be merged."""

    def __repr__(self) -> str:
        return "option." + super().__repr__()
