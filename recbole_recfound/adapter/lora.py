"""One LoRA for all tasks: the ablation of TMoLE."""

from collections.abc import Sequence
from typing import Any

from peft import LoraConfig

from recbole_recfound.adapter.registered import ADAPTERS


@ADAPTERS.register("lora")
def lora(
    r: int = 16,
    lora_alpha: float = 64,
    lora_dropout: float = 0.1,
    target_modules: Sequence[str] | str = ("q_proj", "k_proj", "v_proj", "o_proj"),
    **options: Any,
) -> LoraConfig:
    """Return the configuration of a LoRA with the defaults of a TMoLE expert.

    Args:
        r: rank.
        lora_alpha: the output is scaled by `lora_alpha / r`.
        lora_dropout: dropout on the input.
        target_modules: names (or one regex) of the linear maps to adapt.
        options: further fields of `LoraConfig`, from Python alone: settings have the four above.
    """
    modules = target_modules if isinstance(target_modules, str) else list(target_modules)
    return LoraConfig(
        r=r,
        lora_alpha=lora_alpha,  # type: ignore[arg-type]  # peft divides by r; a float is as good
        lora_dropout=lora_dropout,
        target_modules=modules,
        **options,
    )


vars(lora)["bounds"] = {"r": {"minimum": 1}, "lora_alpha": {"above": 0}, "lora_dropout": {"minimum": 0, "below": 1}}
