"""Options of IAK: `kernel_args` shape the kernels, `iak_args` train them."""

from __future__ import annotations

from dataclasses import dataclass

from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.options import Options, option


@dataclass(frozen=True)
class KernelOptions(Options):
    """Place and shape of the kernels (`kernel_args`).

    Attributes:
        layer: where kernels are attached: a sub-module (its output), input:NAME or method:NAME; or several of them, in
            the order in which the base reaches them. None: the last vector before the prediction head or the product
            with the items.
        combine: residual: h + s Ghat, equal to the base before training. replace: Ghat. gated: a learned mixture of
            both.
        stochastic: a Gaussian code whose KL bounds the retained information. False: a plain bottleneck.
        prior: distribution the code is compared with. standard: N(0, I). learned: one Gaussian per domain.
        bottleneck: width of the hidden layers. None: half of the base's vector.
        code_size: width of the code. None: an eighth of the base's vector, at least 4.
        budget: instead of sizes, the parameters of one domain's kernels as a share of the base's, such as 0.05; several
            layers share it equally.
    """

    layer: str | list[str] | None = option(None)
    combine: str = option("residual", choices=("residual", "replace", "gated"))
    stochastic: bool = option(True)
    prior: str = option("standard", choices=("standard", "learned"))
    bottleneck: int | None = option(None, minimum=1)
    code_size: int | None = option(None, minimum=1)
    budget: float | None = option(None, above=0, maximum=1)

    @property
    def layers(self) -> list[str | None]:
        """The places; None: the family's own."""
        return list(self.layer) if isinstance(self.layer, (list, tuple)) else [self.layer]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.layers or len(set(self.layers)) < len(self.layers):
            raise ConfigError(f"kernel_args: layer: got {self.layer}, expected one layer, or several different ones")


@dataclass(frozen=True)
class IAKOptions(Options):
    """Losses and training of the kernels (`iak_args`).

    Attributes:
        beta: weight of the KL, reached after a quarter of the steps. Several values are trained one after the other,
            and validation chooses.
        lambda_c: weight of the compression loss, which reads the code alone.
        lambda_kd: weight of the squared distance to the base's vectors (against forgetting).
        schedule: joint, or two_phase: first the encoder (compression), then the decoder (matching).
        sampling: dynamic: batches grow with the root of a domain's size. fixed: equal batches. mixed: ignores domains.
        least_steps: minimum number of steps of every domain.
        cold: domains without training rows use the base, or the mean of the trained kernels. (A value of .inter that no
            training row has is no domain.)
        warm_start: run folder whose kernels, matched by domain name, are the initial ones. Empty: none.
        base_share: share of the training rows (the earliest, where the split is by time) that a base trained first
            learns from; kernels and other ways of fine-tuning learn from the rest. None: all learn from all rows.
    """

    beta: float | list[float] = option(1e-4, minimum=0)
    lambda_c: float = option(0.1, minimum=0)
    lambda_kd: float = option(0.0, minimum=0)
    schedule: str = option("joint", choices=("joint", "two_phase"))
    sampling: str = option("dynamic", choices=("dynamic", "fixed", "mixed"))
    least_steps: int = option(50, minimum=0)
    cold: str = option("base", choices=("base", "mean"))
    warm_start: str = option("")
    base_share: float | None = option(None, above=0, below=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.betas:
            raise ConfigError("iak_args: beta: got [], expected at least one number")

    @property
    def betas(self) -> list[float]:
        """The values of beta to train."""
        return list(self.beta) if isinstance(self.beta, (list, tuple)) else [self.beta]
