"""IAK as a RecBole model: a frozen base with a bank of kernels plugged in (arXiv 2501.14268)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import InputType, ModelType
from torch import nn
from torch.nn import functional as F

from recbole_recfound.data.domain import Domains
from recbole_recfound.model.kernel import IAKKernelBank, Passed
from recbole_recfound.model.pretrained import Attachment, Family

DOMAIN_FIELD = "iak_domain"
"""Column of a batch, int64 [B, number of domain types], that overrides what the domains' own rules say."""


class Losses(NamedTuple):
    """The parts of IAK's loss, each unweighted and a mean over the rows.

    Attributes:
        matching: the base's own loss with h' in place of h.
        compression: the same kind of loss, read from the code alone.
        kl: bound on I(adapted; general), in nats.
        distill: mean squared distance between h' and h.
    """

    matching: torch.Tensor
    compression: torch.Tensor
    kl: torch.Tensor
    distill: torch.Tensor


class IAK(AbstractRecommender):
    """A trained recommender with one kernel per domain: the base is frozen, only kernels learn.

    With several types of domain there is one bank for each, and their residual outputs are added.

    Args:
        base: trained model; frozen here, and kept in eval mode even when RecBole's trainer calls `train()`.
        family: its place, items and loss.
        attachment: the place where kernels are plugged in.
        domains: one entry for each type of domain.
        banks: a bank for each type.
    """

    type = ModelType.GENERAL
    input_type = InputType.POINTWISE

    def __init__(
        self,
        base: nn.Module,
        family: Family,
        attachment: Attachment,
        domains: Sequence[Domains],
        banks: Sequence[IAKKernelBank],
    ) -> None:
        super().__init__()
        self.base = base.requires_grad_(False).eval()
        self.family, self.attachment, self.domains = family, attachment, tuple(domains)
        self.banks = nn.ModuleList(banks)
        if len(banks) > 1 and any(bank.combine != "residual" for bank in banks):
            raise ValueError("several types of domain add their residual outputs: combine must be residual")
        self.items: torch.Tensor | None = None

    def train(self, mode: bool = True) -> IAK:
        """Kernels follow `mode`; the base stays in eval: no dropout, fixed BatchNorm statistics."""
        super().train(mode)
        self.base.eval()
        return self

    def domain_of(self, interaction) -> torch.Tensor:
        """Domains of a batch, int64 [B, types], -1 = none."""
        if DOMAIN_FIELD in interaction:
            return interaction[DOMAIN_FIELD]
        return torch.stack([domains.of(interaction) for domains in self.domains], dim=1)

    def adapt(self, hidden: torch.Tensor, domain: torch.Tensor) -> torch.Tensor:
        """H' of vectors [B, ..., d] with domains [B, types]; vectors of one row share its domain."""
        flat, each = _rows(hidden, domain)
        return _added(flat, [bank(flat, each[:, number]) for number, bank in enumerate(self.banks)]).reshape(
            hidden.shape
        )

    def _passes(self, hidden: torch.Tensor, domain: torch.Tensor) -> tuple[torch.Tensor, list[Passed]]:
        """H' with all that the loss needs."""
        flat, each = _rows(hidden, domain)
        passes = [bank.run(flat, each[:, number]) for number, bank in enumerate(self.banks)]
        return _added(flat, [done.hidden for done in passes]).reshape(hidden.shape), passes

    def losses(self, interaction) -> Losses:
        """All parts of the loss in one pass of the base."""
        domain, seen = self.domain_of(interaction), []

        def through(hidden: torch.Tensor) -> torch.Tensor:
            adapted, passes = self._passes(hidden.detach(), domain)
            seen.append((hidden.detach(), adapted, passes))
            return adapted

        with self.attachment.using(through):
            matching = self.family.loss(self.base, interaction)
        ((hidden, adapted, passes),) = seen
        zero = matching.new_zeros(())
        compression = [self._compression(done.aux, interaction) for done in passes if done.aux is not None]
        kl = sum((done.kl.mean() for done in passes), zero)
        return Losses(matching, sum(compression, zero), kl, F.mse_loss(adapted, hidden))

    def _compression(self, read: torch.Tensor, interaction) -> torch.Tensor:
        """The task's loss of what the auxiliary head reads from the code: a click's logit, or a vector among the frozen items."""
        if self.family.items is None:
            return F.binary_cross_entropy_with_logits(read.squeeze(-1), interaction[self.base.LABEL].float())
        positive = interaction[self.base.ITEM_ID]
        items = self.frozen_items()
        if self.base.NEG_ITEM_ID in interaction:
            negative = interaction[self.base.NEG_ITEM_ID]
            return -F.logsigmoid((read * (items[positive] - items[negative])).sum(-1)).mean()
        return F.cross_entropy(read @ items.T, positive)

    @torch.no_grad()
    def frozen_items(self) -> torch.Tensor:
        """[num_items, d], the items of the frozen base; computed once."""
        if self.items is None:
            self.items = self.family.items(self.base).detach()
        return self.items

    def calculate_loss(self, interaction) -> torch.Tensor:
        """Matching loss alone; the trainer weighs all parts (`losses`)."""
        return self.losses(interaction).matching

    def predict(self, interaction) -> torch.Tensor:
        """The base's `predict` with kernels."""
        domain = self.domain_of(interaction)
        with self.attachment.using(lambda hidden: self.adapt(hidden, domain)):
            return self.base.predict(interaction)

    def full_sort_predict(self, interaction) -> torch.Tensor:
        """The base's `full_sort_predict` with kernels."""
        domain = self.domain_of(interaction)
        with self.attachment.using(lambda hidden: self.adapt(hidden, domain)):
            return self.base.full_sort_predict(interaction)


def _rows(hidden: torch.Tensor, domain: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors [B, ..., d] as rows, and the domains of each."""
    inner = hidden[0, ..., 0].numel() if len(hidden) else 1
    return hidden.reshape(-1, hidden.shape[-1]), domain.repeat_interleave(inner, dim=0) if inner > 1 else domain


def _added(flat: torch.Tensor, adapted: list[torch.Tensor]) -> torch.Tensor:
    """One bank's vectors, or the sum of the changes of several."""
    return adapted[0] if len(adapted) == 1 else adapted[0] + sum(further - flat for further in adapted[1:])
