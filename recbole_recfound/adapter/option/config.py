"""Configuration of an option adapter."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from recbole_recfound.adapter.peft_type import add_peft_type
from recbole_recfound.adapter.shared import PlacedConfig

OPTION = add_peft_type("OPTION")


@dataclass
class OptionConfig(PlacedConfig):
    """Configuration of an [`OptionModel`]: soft prompts whose last rows are the classifier, and parallel adapters.

    Args:
        prompts: number m of soft prompts.
        classes: number C of classes; the last C prompts are the rows of the classifier.
        bottleneck: width of the adapter beside every MLP; 0: no adapters (option tuning alone).
        scale: initial lambda of every adapter; a typical entry of the hidden states makes adapters learn as fast as
            the states are large.
        target_modules: names (or one regex) of the MLPs.
        exclude_modules: names (or one regex) of MLPs to leave alone.
        layers_to_transform: indices of the decoder layers to adapt; all when None.
        layers_pattern: name of the list of decoder layers, where it cannot be guessed.
        modules_to_save: further modules to train and save with the adapter.
        init_weights: start with W2 and b2 at zero, so that the adapters change nothing before training.

    Raises:
        ValueError: a count is out of range.
    """

    bounds: ClassVar[dict[str, dict[str, float]]] = {"prompts": {"minimum": 1}, "bottleneck": {"minimum": 0}}
    """Limits of options, which the settings check before anything is loaded."""

    prompts: int = field(default=16, metadata={"help": "Number of soft prompts."})
    classes: int = field(default=2, metadata={"help": "The last prompts are the rows of the classifier."})
    bottleneck: int = field(default=64, metadata={"help": "Width of the adapters; 0: none."})
    scale: float = field(default=1.0, metadata={"help": "Initial lambda of every adapter."})
    target_modules: list[str] | str | None = field(
        default_factory=lambda: ["mlp"], metadata={"help": "Names or regex of the MLPs."}
    )
    exclude_modules: list[str] | str | None = field(
        default=None, metadata={"help": "Names or regex of MLPs to leave alone."}
    )
    layers_to_transform: list[int] | int | None = field(
        default=None, metadata={"help": "Indices of the decoder layers to adapt."}
    )
    layers_pattern: list[str] | str | None = field(
        default=None, metadata={"help": "Name of the list of decoder layers."}
    )
    modules_to_save: list[str] | None = field(
        default=None, metadata={"help": "Further modules to train and save with the adapter."}
    )
    init_weights: bool = field(default=True, metadata={"help": "Start with W2 and b2 at zero."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = OPTION
        for name, least in (("prompts", 1), ("classes", 0), ("bottleneck", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name}: got {value!r}, expected a whole number, at least {least}")
        if self.classes > self.prompts:
            raise ValueError(f"classes: got {self.classes}, expected at most the number of prompts ({self.prompts})")
