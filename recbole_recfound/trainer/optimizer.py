"""Choice of the trained parameters, and their learning rates."""

import torch
from torch import nn

from recbole_recfound.errors import ConfigError
from recbole_recfound.model.trained import trained_parameters
from recbole_recfound.trainer.zero import DividedOptimizer

LEARNERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}


def build_optimizer(
    model: nn.Module, learner: str, adapter_rate: float, head_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Build an optimiser over the trained parameters only; RecBole's includes the frozen backbone.

    Args:
        model: the model.
        learner: `adamw`, `adam` or `sgd`.
        adapter_rate: learning rate of the adapter inside the backbone.
        head_rate: learning rate of everything around it.
        weight_decay: on matrices outside the adapter; norms, biases, routers and experts have none.

    Raises:
        ConfigError: unknown learner.
    """
    learner = learner.lower()  # as in RecBole
    if learner not in LEARNERS:
        raise ConfigError(f"learner: '{learner}' is unknown, expected one of {', '.join(LEARNERS)}")
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, weight in trained_parameters(model).items():
        inside = name.startswith("backbone.")
        decay = 0.0 if inside or weight.dim() < 2 else weight_decay
        groups.setdefault((adapter_rate if inside else head_rate, decay), []).append(weight)
    # Fused: one pass over millions of adapter weights instead of a dozen.
    return LEARNERS[learner](
        [{"params": weights, "lr": rate, "weight_decay": decay} for (rate, decay), weights in groups.items()],
        lr=head_rate,
        fused=True,
    )


def optimizer_tensors(optimizer: torch.optim.Optimizer | DividedOptimizer) -> dict[str, torch.Tensor]:
    """Return the optimiser's state as named tensors, for safetensors."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{key}": torch.as_tensor(value) for index, values in state.items() for key, value in values.items()
    }


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer | DividedOptimizer, tensors: dict[str, torch.Tensor]
) -> None:
    """Put back what `optimizer_tensors` gave.

    Args:
        optimizer: built for the same parameters, changed in place.
        tensors: state by name.
    """
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
