"""Configuration of a TMoLE adapter."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from recbole_recfound.adapter.peft_type import add_peft_type
from recbole_recfound.adapter.registered import ADAPTERS
from recbole_recfound.adapter.shared import PlacedConfig

TMOLE = add_peft_type("TMOLE")

#: The groups of experts a kind of task opens, as (first, last) in the order embedding | shared | generative.
OPEN_GROUPS = {"embedding": (0, 2), "generative": (1, 3), "none": (1, 2)}

MAX_EXPERTS_PER_GROUP = 64


@ADAPTERS.register("tmole")
@dataclass
class TMoLEConfig(PlacedConfig):
    """Configuration of a [`TMoLEModel`]: a task-routed mixture of low-rank experts (RecFound TMoLE, arXiv 2506.11999).

    Every target linear map gets `3 * experts_per_group` LoRA experts: a group for embedding tasks, a group that is
    always open, and a group for generative tasks. A router weighs the open experts by the task alone.

    Args:
        r: rank of one expert.
        lora_alpha: each expert's output is scaled by `lora_alpha / r`.
        lora_dropout: dropout on the input of the experts; all experts of a layer share one mask.
        experts_per_group: experts in each of the three groups, 1 to 64.
        task_names: one name per row of the task table; required.
        task_kinds: for each row `"embedding"`, `"generative"` or `"none"` (shared experts only); required.
        task_dim: width of the task embeddings.
        target_modules: names (or one regex) of the linear maps to adapt, or `"all-linear"`.
        exclude_modules: names (or one regex) of linear maps to leave alone.
        layers_to_transform: indices of the decoder layers to adapt; all when None.
        layers_pattern: name of the list of decoder layers, where it cannot be guessed.
        modules_to_save: further modules to train and save with the adapter.
        init_weights: start with B at zero, so that the adapter changes nothing before training.

    Raises:
        ValueError: a count, rank or probability is out of range, or names and kinds do not match.
    """

    bounds: ClassVar[dict[str, dict[str, float]]] = {
        "r": {"minimum": 1},
        "lora_alpha": {"above": 0},
        "lora_dropout": {"minimum": 0, "below": 1},
        "experts_per_group": {"minimum": 1, "maximum": MAX_EXPERTS_PER_GROUP},
        "task_dim": {"minimum": 1},
    }
    """Limits of options, which the settings check before anything is loaded."""

    r: int = field(default=16, metadata={"help": "Rank of one expert."})
    lora_alpha: float = field(default=64, metadata={"help": "Experts are scaled by lora_alpha / r."})
    lora_dropout: float = field(default=0.1, metadata={"help": "Dropout on the experts' input."})
    experts_per_group: int = field(default=2, metadata={"help": "Experts in each of the three groups."})
    task_names: list[str] = field(
        default_factory=list, metadata={"help": "One name per row of the task table.", "of_tasks": True}
    )
    task_kinds: list[str] = field(
        default_factory=list, metadata={"help": "One kind per row of the task table.", "of_tasks": True}
    )
    task_dim: int = field(default=512, metadata={"help": "Width of the task embeddings."})
    target_modules: list[str] | str | None = field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj"],
        metadata={"help": "Names or regex of the linear maps to adapt."},
    )
    exclude_modules: list[str] | str | None = field(
        default=None, metadata={"help": "Names or regex of linear maps to leave alone."}
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
    init_weights: bool = field(default=True, metadata={"help": "Start with B at zero."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = TMOLE
        self._check_sizes()
        self._check_tasks()

    @property
    def num_experts(self) -> int:
        """Experts of one adapted layer."""
        return 3 * self.experts_per_group

    @property
    def num_tasks(self) -> int:
        """Rows of the task table."""
        return len(self.task_names)

    def _check_sizes(self) -> None:
        if not _is_count(self.experts_per_group, MAX_EXPERTS_PER_GROUP):
            raise ValueError(f"experts_per_group must be 1 to {MAX_EXPERTS_PER_GROUP}, not {self.experts_per_group!r}")
        for name in ("r", "task_dim"):
            if not _is_count(getattr(self, name)):
                raise ValueError(f"{name} must be a positive integer, not {getattr(self, name)!r}")
        if not self.lora_alpha > 0:
            raise ValueError(f"lora_alpha must be positive, not {self.lora_alpha!r}")
        if not 0 <= self.lora_dropout < 1:
            raise ValueError(f"lora_dropout must be in [0, 1), not {self.lora_dropout!r}")

    def _check_tasks(self) -> None:
        if not self.task_names or len(set(self.task_names)) != len(self.task_names):
            raise ValueError(f"task_names: got {self.task_names!r}, expected at least one name, all different")
        if len(self.task_kinds) != len(self.task_names):
            raise ValueError(f"task_kinds: got {len(self.task_kinds)}, expected one per task ({len(self.task_names)})")
        unknown = sorted(set(self.task_kinds) - set(OPEN_GROUPS))
        if unknown:
            raise ValueError(f"unknown task kinds {unknown}: use {sorted(OPEN_GROUPS)}")


def _is_count(value: object, largest: int | None = None) -> bool:
    if isinstance(value, bool) or not isinstance(value, int):
        return False
    return value >= 1 and (largest is None or value <= largest)
