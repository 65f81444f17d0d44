"""Adam over stacked kernels: every domain has its own step count, moments and step size."""

from __future__ import annotations

from collections.abc import Iterable

import torch


class DomainAdam(torch.optim.Optimizer):
    """Adam (Kingma and Ba) for parameters whose first dimension is the domain.

    A domain without rows in a batch is not touched: neither its weights, nor its moments, nor its step count move.
    Plain Adam would keep moving it by its momentum, and would hide a smaller step behind its normalisation, since it
    cancels any factor of the gradient.

    Args:
        params: tensors [D, ...].
        lr: step size.
        rate_factors: [D], factor of each domain's step size.
        betas, eps: Adam's.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float,
        rate_factors: torch.Tensor,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})
        self.rate_factors = rate_factors

    @torch.no_grad()
    # Not exchangeable with other optimisers: a step needs the domains of the batch.
    def step(self, domains: torch.Tensor, shares: torch.Tensor) -> None:  # type: ignore[override]
        """Make one step of some domains.

        Args:
            domains: int64 [A], each domain at most once.
            shares: [A], the part of the batch's rows that each domain has. The loss is a mean over the batch; divided
                by its share, a domain's gradient is that of the mean over its own rows.
        """
        for group in self.param_groups:
            first, second = group["betas"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["step"] = torch.zeros(len(weight), device=weight.device, dtype=torch.float64)
                    state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weight), torch.zeros_like(weight)
                shape = (-1, *[1] * (weight.dim() - 1))
                gradient = weight.grad[domains] / shares.view(shape)
                count = state["step"][domains] + 1
                average = torch.lerp(gradient, state["exp_avg"][domains], first)
                square = torch.lerp(gradient.square(), state["exp_avg_sq"][domains], second)
                size = (square / (1 - second**count).to(square).view(shape)).sqrt_().add_(group["eps"])
                rate = (group["lr"] * self.rate_factors[domains] / (1 - first**count)).to(average).view(shape)
                weight[domains] = weight[domains] - rate * average / size
                state["step"][domains], state["exp_avg"][domains], state["exp_avg_sq"][domains] = count, average, square
