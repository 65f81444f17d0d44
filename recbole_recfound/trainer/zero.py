"""An optimiser whose state DeepSpeed divides among the processes (ZeRO stage 1, Rajbhandari et al. 2020)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, cast

import torch
from accelerate.state import GradientState
from accelerate.utils import patch_environment
from torch import distributed, nn

from recbole_recfound.model.trained import layer_of
from recbole_recfound.runtime.ranks import rank, world

_IDLE = "idle"
"""Option of a group of parameters: none of them has a gradient in this step."""


class DividedOptimizer:
    """A torch optimiser over parameters that all processes hold whole, while each keeps its share of the state.

    Gradients are expected whole and equal on all processes, so they are clipped and checked as with one process. The
    state is read and written whole as well, in the form of the optimiser that is divided: a checkpoint does not know
    how many processes wrote it.

    DeepSpeed gives a parameter without a gradient one of zeros, which would move it with its momentum. What has no
    gradient together is therefore a group of its own (a decoder layer, a projection), and such a group is left out.
    A parameter without a gradient beside others of its group that have one would still move.

    Args:
        optimizer: built for trained parameters of `model`; replaced by this one.
        model: owner of the parameters, whose names tell which of them belong together.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
        self.weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        with patch_environment(ds_accelerator=self.weights[0].device.type):  # it would take any GPU that it finds
            import deepspeed
        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
        names = {weight: name for name, weight in model.named_parameters()}
        groups = []
        for group in optimizer.param_groups:
            together: dict[int | str, list[nn.Parameter]] = {}
            for weight in group["params"]:
                layer = layer_of(names[weight])
                together.setdefault(names[weight].split(".")[0] if layer is None else layer, []).append(weight)
            groups += [{**group, "params": weights} for weights in together.values()]
        self.groups: list[list[nn.Parameter]] = [group["params"] for group in groups]
        inner = cast(Any, type(optimizer))(groups, lr=optimizer.defaults["lr"])
        inner.register_step_pre_hook(_leave_out_idle)
        # The engine gets the trained parameters alone: it would refuse frozen ones of another type.
        self.engine, self.inner, *_ = deepspeed.initialize(
            model=_Parameters(self.weights),
            optimizer=inner,
            dist_init_required=False,
            config={
                "train_micro_batch_size_per_gpu": 1,
                # Without buckets of half a billion numbers, which each process would fill during its backward passes.
                "zero_optimization": {"stage": 1, "overlap_comm": False, "contiguous_gradients": False},
                "gradient_clipping": 0.0,  # they are clipped already; DeepSpeed's own default is 1
                "zero_allow_untested_optimizer": True,
                # A step has as many backward passes as it has kinds of tasks; DeepSpeed waits for `step`.
                "managed_gradient_accumulation": False,
            },
        )

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Options of each group; their parameters are this process's shares."""
        return cast(list[dict[str, Any]], self.inner.param_groups)

    @torch.no_grad()
    def step(self) -> None:
        """Make a step with the gradients, where the accumulation is complete."""
        if not GradientState().sync_gradients:
            return
        for group, weights in zip(self.param_groups, self.groups, strict=True):
            group[_IDLE] = all(weight.grad is None for weight in weights)
            # A checkpoint may have been loaded into the parameters since the last step.
            self._share(group).copy_(self._share_of(weights, group))
        self.engine.step()

    def zero_grad(self) -> None:
        """Forget the gradients, where the accumulation is complete."""
        if GradientState().sync_gradients:
            for weight in self.weights:
                weight.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state on every process, as the optimiser that is divided does; all processes call it."""
        found: dict[int, dict[str, torch.Tensor]] = {}
        numbers = {weight: number for number, weight in enumerate(self.weights)}
        for group, weights in zip(self.param_groups, self.groups, strict=True):
            share = self._share(group)
            for key, value in self.inner.state.get(share, {}).items():
                divided = torch.is_tensor(value) and value.shape == share.shape
                values = self._gather(value, weights) if divided else [value.clone() for _ in weights]
                for weight, whole in zip(weights, values, strict=True):
                    found.setdefault(numbers[weight], {})[key] = whole
        return {"state": found, "param_groups": []}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take this process's share of a whole state.

        Args:
            state: what `state_dict` of this or of an undivided optimiser returned; its groups are not read.
        """
        numbers = {weight: number for number, weight in enumerate(self.weights)}
        self.inner.state.clear()
        for group, weights in zip(self.param_groups, self.groups, strict=True):
            share = self._share(group)
            values = [state["state"].get(numbers[weight], {}) for weight in weights]
            for key in dict.fromkeys(chain.from_iterable(values)):
                if key == "step":  # a fused optimiser counts on the device
                    self.inner.state[share][key] = max(value[key] for value in values if key in value).to(share)
                else:
                    found = [
                        value[key].to(share) if key in value else torch.zeros_like(weight)
                        for value, weight in zip(values, weights, strict=True)
                    ]
                    self.inner.state[share][key] = self._share_of(found, group).clone()

    @staticmethod
    def _share(group: dict[str, Any]) -> torch.Tensor:
        """Return this process's share of a group's weights, flat, with zeros behind the last process's."""
        return cast(torch.Tensor, group["params"][0])

    def _share_of(self, values: Sequence[torch.Tensor], group: dict[str, Any]) -> torch.Tensor:
        """Return this process's share of whole tensors, laid out as the weights of a group are."""
        size = self._share(group).numel()
        flat = torch.cat([value.detach().flatten() for value in values])
        return nn.functional.pad(flat, (0, size * world() - len(flat)))[rank() * size :][:size]

    def _gather(self, share: torch.Tensor, like: list[nn.Parameter]) -> Iterator[torch.Tensor]:
        """Return whole tensors from the shares of all processes."""
        shares = [torch.empty_like(share) for _ in range(world())]
        distributed.all_gather(shares, share)
        sizes = [weight.numel() for weight in like]
        for part, weight in zip(torch.cat(shares)[: sum(sizes)].split(sizes), like, strict=True):
            yield part.view_as(weight).clone()


class _Parameters(nn.Module):
    """Parameters of another module."""

    def __init__(self, weights: list[nn.Parameter]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(weights)


def _leave_out_idle(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Take the gradients of zeros from groups that had none."""
    for group in optimizer.param_groups:
        if group[_IDLE]:
            for share in group["params"]:
                share.grad = None
