"""The option tuner."""

from __future__ import annotations

import inspect
import math
from typing import Any, cast

import torch
from peft import PeftConfig
from torch import nn

from recbole_recfound.adapter.option.config import OptionConfig
from recbole_recfound.adapter.option.layer import OptionLayer
from recbole_recfound.adapter.shared import SharedPartTuner
from recbole_recfound.errors import cause_of

PROMPT_SCALE = 0.1
"""Initial size of a prompt's entries."""


class OptionModel(SharedPartTuner):
    """A frozen backbone with soft prompts, a classifier made of the last prompts, and adapters beside the MLPs.

    `forward` and `generate` are those of the backbone with the adapters. Prompts are vectors that the caller puts
    before the text, since only it knows where the text starts: at the input of the first layer, or of the first layer
    that sees several segments.

    Args:
        model: the frozen backbone.
        config: adapter configuration.
        adapter_name: name of the adapter.

    Example:
        >>> from peft import get_peft_model
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> sizes = dict(hidden_size=8, intermediate_size=8, num_attention_heads=2, num_hidden_layers=1, vocab_size=9)
        >>> config = OptionConfig(task_type="CAUSAL_LM", prompts=4, classes=2, bottleneck=2)
        >>> options = get_peft_model(LlamaForCausalLM(LlamaConfig(**sizes)), config).base_model
        >>> options.prompts().shape, options.classify(torch.zeros(3, 8)).shape
        (torch.Size([4, 8]), torch.Size([3, 2]))
    """

    prefix: str = "option_"
    tuner_layer_cls = OptionLayer
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012  # PEFT types it so

    def prompts(self, adapter_name: str | None = None) -> nn.Parameter:
        """Return the soft prompts S [m, d] of an adapter.

        Args:
            adapter_name: name of the adapter; None: the active one.
        """
        return cast(nn.Parameter, self.option_prompts[adapter_name or self.active_adapters[0]])

    def classify(self, hidden: torch.Tensor, adapter_name: str | None = None) -> torch.Tensor:
        """Return the logits h S[m - C:]^T / sqrt(d) [..., C] of states [..., d]: the classifier's rows are prompts.

        The division lets prompts and classifier, which are one tensor, be trained with one learning rate.

        Args:
            hidden: states of the last token.
            adapter_name: name of the adapter; None: the active one.
        """
        name = adapter_name or self.active_adapters[0]
        prompts, classes = self.prompts(name), cast(OptionConfig, self.peft_config[name]).classes
        return hidden.to(prompts.dtype) @ prompts[len(prompts) - classes :].T / math.sqrt(self.width)

    def _pre_injection_hook(self, model: nn.Module, config: PeftConfig, adapter_name: str) -> None:
        if not hasattr(self, "option_prompts"):
            self.option_prompts = nn.ParameterDict()
        embeddings = cast(Any, model).get_input_embeddings()
        self.width, self._dtype = int(embeddings.embedding_dim), embeddings.weight.dtype

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> Any:
        """Add an adapter; its prompts are drawn once."""
        result = super().inject_adapter(model, adapter_name, *args, **kwargs)
        config = cast(OptionConfig, self.peft_config[adapter_name])
        device = cast(Any, model).get_input_embeddings().weight.device
        drawn = PROMPT_SCALE * torch.randn(config.prompts, self.width, dtype=torch.float32)
        self.option_prompts[adapter_name] = nn.Parameter(drawn.to(device))
        self.option_prompts[adapter_name].requires_grad_(
            adapter_name in self.active_adapters and not config.inference_mode
        )
        return result

    def _create_and_replace(  # type: ignore[override]  # PEFT's own tuners have keywords here too
        self,
        option_config: OptionConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        **optional_kwargs: Any,
    ) -> None:
        if isinstance(target, OptionLayer):
            target.update_layer(adapter_name, option_config)
            return
        self._check_target(target, target_name)
        layer = OptionLayer(target, adapter_name, option_config, self.width)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    @torch.no_grad()
    def _check_target(self, target: nn.Module, target_name: str) -> None:
        """Check that a module maps hidden states to hidden states: the adapter's output is added to its own.

        Raises:
            TypeError: it does not.
        """
        needed = [
            parameter
            for parameter in inspect.signature(target.forward).parameters.values()
            if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ]
        if len(needed) > 1:  # such as the residual that BLOOM's MLP takes: what it is given is not known here
            return
        weight = next(target.parameters(), None)
        cause = "it has no weights"
        if weight is not None:
            state = torch.zeros(1, 1, self.width, dtype=self._dtype, device=weight.device)
            try:
                # Dropout inside of the module must not change the random numbers of the training.
                with torch.random.fork_rng([weight.device] if weight.is_cuda else []):
                    output = target(state)
                if isinstance(output, torch.Tensor) and output.shape == state.shape:
                    return
                shown = f"[..., {output.shape[-1]}]" if isinstance(output, torch.Tensor) else type(output).__name__
                cause = f"it returns {shown}"
            except Exception as error:
                cause = cause_of(error)
        raise TypeError(
            f"target_modules: got {target_name} ({type(target).__name__}), expected MLPs, which map hidden states "
            f"[..., {self.width}] to hidden states, but {cause}"
        )

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        """Replace an MLP by its layer, or back; PEFT's own form expects a module with one weight."""
        setattr(parent, child_name, new_module)

    def _parts(self) -> nn.ParameterDict:
        return self.option_prompts
