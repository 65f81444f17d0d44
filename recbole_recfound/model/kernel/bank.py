"""A bank of D kernels with stacked weights: one pass serves a batch of mixed domains (IAK, arXiv 2501.14268)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import nn

from recbole_recfound.model.kernel.blocks import Layout, each_row, group_rows
from recbole_recfound.model.kernel.gaussian import gaussian_kl
from recbole_recfound.runtime.device import is_gpu
from recbole_recfound.runtime.exchange import Share

COMBINES = ("residual", "replace", "gated")
LOGVAR_RANGE = (-8.0, 4.0)
GATHERED = 1 << 24
"""Up to this many weights over all rows, a GPU reads one matrix per row; sorting the rows would take longer."""


class BankOutput(NamedTuple):
    """Output of a bank, in the order of the batch.

    Attributes:
        hidden: [B, d], h'; equal to h where there is no domain.
        code: [B, r], z; 0 where there is no domain.
        kl: [B], nats between each row's Gaussian and its domain's prior; 0 where there is no domain or no Gaussian.
        aux: [B, a], output of the auxiliary head on z, or None without such a head.
    """

    hidden: torch.Tensor
    code: torch.Tensor
    kl: torch.Tensor
    aux: torch.Tensor | None


class IAKKernelBank(nn.Module):
    """D information-aware kernels: h is compressed into a Gaussian code and decoded into a change for its domain.

        a    = relu(h W1 + b1)                          mu = a W_mu + b_mu,  logvar = clamp(a W_s + b_s, -8, 4)
        z    = mu + exp(logvar / 2) eps (training)      Ghat = z P + relu(z W3 + b3) W4 + b4
        h'   = h + s Ghat  |  Ghat  |  (1 - g) h + g Ghat        (residual | replace | gated)

    All domains start with the same random weights, so that the mean of trained kernels is a kernel too. With
    `residual`, P, W4 and b4 start at zero: the bank changes no bit of h before training.

    Args:
        num_domains: D.
        hidden_size: d.
        bottleneck: m, width of the hidden layers of encoder and decoder.
        code_size: r.
        combine: `residual`, `replace` or `gated`.
        stochastic: False gives the deterministic bottleneck: no variance, no KL.
        learned_prior: a Gaussian per domain instead of N(0, I).
        aux_size: outputs of the head that reads the code alone (the compression loss); 0: none.
    """

    enabled: torch.Tensor

    def __init__(
        self,
        num_domains: int,
        hidden_size: int,
        bottleneck: int,
        code_size: int,
        combine: str = "residual",
        stochastic: bool = True,
        learned_prior: bool = False,
        aux_size: int = 0,
    ) -> None:
        super().__init__()
        if combine not in COMBINES:
            raise ValueError(f"combine is {combine!r}, expected one of {', '.join(COMBINES)}")
        self.num_domains, self.hidden_size, self.code_size = num_domains, hidden_size, code_size
        self.combine, self.stochastic = combine, stochastic
        d, m, r = hidden_size, bottleneck, code_size
        silent = combine == "residual"
        self.encoder_weight, self.encoder_bias = self._matrix(d, m), self._filled(0, m)
        self.mean_weight, self.mean_bias = self._matrix(m, r), self._filled(0, r)
        self.project = self._filled(0, r, d) if silent else self._matrix(r, d)
        self.decoder_weight, self.decoder_bias = self._matrix(r, m), self._filled(0, m)
        self.output_weight = self._filled(0, m, d) if silent else self._matrix(m, d)
        self.output_bias = self._filled(0, d)
        self.scale = self._filled(1)
        if combine == "gated":
            self.gate_weight, self.gate_bias = self._matrix(2 * d, 1), self._filled(-2, 1)
        if stochastic:
            self.logvar_weight, self.logvar_bias = self._matrix(m, r), self._filled(-4, r)
            if learned_prior:
                self.prior_mean, self.prior_logvar = self._filled(0, r), self._filled(0, r)
            else:
                self.register_buffer("prior_mean", torch.zeros(num_domains, r), persistent=False)
                self.register_buffer("prior_logvar", torch.zeros(num_domains, r), persistent=False)
        if aux_size:
            self.aux_weight, self.aux_bias = self._matrix(r, aux_size), self._filled(0, aux_size)
        self.aux_size = aux_size
        self.share: Share | None = None
        """Of a batch that several processes divide: which of its rows this bank sees."""
        self.weights_per_domain = sum(weight.numel() for weight in self.parameters()) // max(1, num_domains)
        self.register_buffer("enabled", torch.ones(num_domains, dtype=torch.bool))

    def _matrix(self, rows: int, columns: int) -> nn.Parameter:
        bound = math.sqrt(6 / (rows + columns))
        one = torch.empty(1, rows, columns).uniform_(-bound, bound)
        return nn.Parameter(one.repeat(self.num_domains, 1, 1))

    def _filled(self, value: float, *shape: int) -> nn.Parameter:
        return nn.Parameter(torch.full((self.num_domains, *shape), float(value)))

    def active(self, domain: torch.Tensor) -> torch.Tensor:
        """Return `domain` (int64 [B]) with -1 for disabled kernels (`enabled`)."""
        on = self.enabled[domain.clamp(min=0)] & (domain >= 0)
        return torch.where(on, domain, -1)

    def forward(self, h: torch.Tensor, domain: torch.Tensor) -> torch.Tensor:
        """Adapt hidden vectors.

        Args:
            h: [B, d].
            domain: int64 [B], -1 = none: the row is returned unchanged, bit for bit.

        Returns:
            h' [B, d].
        """
        if self.training:
            return self.run(h, domain).hidden
        # Serving needs neither the variance nor the KL.
        blocks = self._layout(domain)
        x = blocks.split(h)
        return blocks.join(self._combine(blocks, x, self._decode(blocks, self._mean(blocks, x)[0])), h)

    def _layout(self, domain: torch.Tensor, block: int | None = None) -> Layout:
        """Lay out the rows of a batch for batched products, `block` rows per block (None: chosen from the batch)."""
        if block is None and is_gpu(domain.device):
            block = 1 if len(domain) * self.weights_per_domain <= GATHERED else None
        active = self.active(domain)
        return each_row(active) if block == 1 else group_rows(active, self.num_domains, block)

    def _mean(self, blocks: Layout, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean of the code [N, size, r] and the hidden layer [N, size, m] before it."""
        hidden = blocks.linear(x, self.encoder_weight, self.encoder_bias).relu()
        return blocks.linear(hidden, self.mean_weight, self.mean_bias), hidden

    def run(self, h: torch.Tensor, domain: torch.Tensor, block: int | None = None) -> BankOutput:
        """Run the whole pass: h', code, KL and the auxiliary head.

        Args:
            h: [B, d].
            domain: int64 [B], -1 = none.
            block: rows per block; 1: every row by itself; None: chosen from the batch.
        """
        blocks = self._layout(domain, block)
        x = blocks.split(h)
        code, kl = self._encode(blocks, x, h)
        change = self._decode(blocks, code)
        adapted = self._combine(blocks, x, change)
        aux = None
        if self.aux_size:
            aux = blocks.join(blocks.linear(code, self.aux_weight, self.aux_bias), h.new_zeros(len(h), self.aux_size))
        return BankOutput(
            blocks.join(adapted, h),
            blocks.join(code, h.new_zeros(len(h), self.code_size)),
            blocks.join(kl.unsqueeze(-1), h.new_zeros(len(h), 1)).squeeze(-1),
            aux,
        )

    def _encode(self, blocks: Layout, x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return code [N, size, r] and KL [N, size]; the noise follows the order of `h`, whatever the blocks."""
        mean, hidden = self._mean(blocks, x)
        if not self.stochastic:
            return mean, mean.new_zeros(mean.shape[:-1])
        logvar = blocks.linear(hidden, self.logvar_weight, self.logvar_bias).clamp(*LOGVAR_RANGE)
        kl = gaussian_kl(mean, logvar, blocks.each(self.prior_mean), blocks.each(self.prior_logvar))
        if not self.training:
            return mean, kl
        noise = blocks.split(self._noise(h))
        return mean + (logvar / 2).exp() * noise, kl

    def _noise(self, h: torch.Tensor) -> torch.Tensor:
        """Draw noise for the rows of `h`; of several processes each draws that of all rows and takes its own."""
        if self.share is None:
            return torch.randn(len(h), self.code_size, device=h.device, dtype=h.dtype)
        inner = len(h) // len(self.share.index)
        noise = torch.randn(self.share.rows * inner, self.code_size, device=h.device, dtype=h.dtype)
        return noise.view(self.share.rows, inner, -1)[self.share.index].reshape(len(h), -1)

    def _decode(self, blocks: Layout, code: torch.Tensor) -> torch.Tensor:
        hidden = blocks.linear(code, self.decoder_weight, self.decoder_bias).relu()
        return blocks.linear(code, self.project) + blocks.linear(hidden, self.output_weight, self.output_bias)

    def _combine(self, blocks: Layout, x: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        if self.combine == "replace":
            return change
        if self.combine == "residual":
            return x + blocks.each(self.scale) * change
        both = torch.cat([x, change], dim=-1)
        gate = blocks.linear(both, self.gate_weight, self.gate_bias).sigmoid()
        return (1 - gate) * x + gate * change

    def trained_per_domain(self) -> int:
        """Return the number of trained parameters of one domain."""
        return sum(weight.numel() for weight in self.parameters() if weight.requires_grad) // max(1, self.num_domains)

    def group_of(self, phase: str) -> list[nn.Parameter]:
        """Return the parameters of a phase: `encoder` (knowledge compression) or `decoder` (knowledge matching)."""
        first = ("encoder_", "mean_", "logvar_", "prior_", "aux_")
        return [weight for name, weight in self.named_parameters() if name.startswith(first) == (phase == "encoder")]

    @torch.no_grad()
    def set_mean_of(self, sources: torch.Tensor, targets: torch.Tensor) -> None:
        """Give cold domains the mean of trained kernels.

        Args:
            sources: int64, domains whose kernels are averaged.
            targets: int64, domains that receive it.
        """
        for weight in self.parameters():
            weight[targets] = weight[sources].mean(0, keepdim=True).expand(len(targets), *weight.shape[1:])


class Kernels(nn.Module):
    """The kernels of one type of domain: a bank for each place of the base, which are trained and kept together.

    Args:
        places: banks of the same domains, in the order in which the base reaches their places.
    """

    def __init__(self, places: Sequence[IAKKernelBank]) -> None:
        super().__init__()
        self._banks = nn.ModuleList(places)
        self.num_domains = places[0].num_domains

    @property
    def places(self) -> list[IAKKernelBank]:
        """The bank of each place."""
        return cast("list[IAKKernelBank]", list(self._banks))

    @property
    def enabled(self) -> torch.Tensor:
        """Which domains have kernels, bool [D]; see `enable`."""
        return self.places[0].enabled

    def enable(self, domains: torch.Tensor) -> None:
        """Switch the kernels of each domain on or off, at all places.

        Args:
            domains: bool [D].
        """
        for bank in self.places:
            bank.enabled.copy_(domains)

    def trained_per_domain(self) -> int:
        """Return the number of trained parameters of one domain."""
        return sum(bank.trained_per_domain() for bank in self.places)

    def group_of(self, phase: str) -> list[nn.Parameter]:
        """Return the parameters of a phase, see `IAKKernelBank.group_of`."""
        return [weight for bank in self.places for weight in bank.group_of(phase)]

    def set_mean_of(self, sources: torch.Tensor, targets: torch.Tensor) -> None:
        """Give cold domains the mean of trained kernels, see `IAKKernelBank.set_mean_of`."""
        for bank in self.places:
            bank.set_mean_of(sources, targets)


class Banks(nn.ModuleList):
    """The kernels of a model, for each type of domain."""

    if TYPE_CHECKING:

        def __iter__(self) -> Iterator[Kernels]: ...

        def __getitem__(self, index: int) -> Kernels: ...  # type: ignore[override]  # never sliced
