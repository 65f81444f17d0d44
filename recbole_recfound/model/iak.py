"""IAK as a RecBole model: a frozen base with a bank of kernels attached (arXiv 2501.14268)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import InputType, ModelType
from torch import nn
from torch.nn import functional as F

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.domain import Domains, DomainSpec, build_domains, parse_domain, permuted
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.kernel import BankOutput, Banks, IAKKernelBank, Kernels, default_sizes, sizes_within
from recbole_recfound.model.kernel.options import IAKOptions, KernelOptions
from recbole_recfound.model.pretrained import Attachment, Family, family_of, forget_cached, probe
from recbole_recfound.model.pretrained.base_config import base_of
from recbole_recfound.model.pretrained.make import make_base, training_loader, training_rows

PERMUTED = "permuted_domains"
"""Value of `control`: domains are permuted at random, so that they mean nothing."""

DOMAIN_FIELD = "iak_domain"
"""Column of a batch, int64 [B, number of domain types], that overrides what the domains' own rules say."""


class Losses(NamedTuple):
    """The parts of IAK's loss, each unweighted and a mean over the rows.

    Attributes:
        matching: the base's own loss with h' in place of h.
        compression: the same kind of loss, read from the code alone.
        kl: bound on I(adapted; general), in nats.
        distill: mean squared distance between h' and h, added over the places.
    """

    matching: torch.Tensor
    compression: torch.Tensor
    kl: torch.Tensor
    distill: torch.Tensor


class IAK(AbstractRecommender):
    """A trained recommender with one kernel per domain and place: the base is frozen, only kernels learn.

    With several types of domain there are kernels for each, and their residual outputs are added.

    Args:
        config: settings of the run: `domain`, `kernel_args`, `iak_args`, `control`, and the base's (see `base_of`).
        dataset: RecBole's built training set of the base; `dataset.config` are the base's settings.
        base: trained base; None: as `base_checkpoint` says, or an untrained one that the trainer trains first.
        fixed: `domains` (names and edges) and `sizes` of an earlier run; None: from the data and the settings.

    Attributes:
        base: frozen here; stays in eval mode even when RecBole's trainer calls `train()`.
        base_trained: whether the base has weights from a training.
        family: how to read losses, vectors and scores from the base.
        attachments: where the kernels are attached, in the order in which the base reaches the places.
        widths: size d of the vectors at each place.
        domains: one entry for each type of domain.
        banks: kernels of each type.

    Raises:
        ConfigError: invalid domains, sizes or places.
    """

    reads_as_base: ClassVar[bool] = True
    """The settings of the base say which columns are read and needed; they are checked with them."""

    reads_instead: ClassVar[dict[str, str]] = {
        key: f"base_args: {{{key}: ...}} (of a base that is trained first)"
        for key in ("learner", "weight_decay", "clip_grad_norm", "eval_step", "enable_amp", "enable_scaler")
    }
    """RecBole's training keys that this model does not read -> the keys to use."""

    type = ModelType.GENERAL
    input_type = InputType.POINTWISE

    base: AbstractRecommender
    banks: Banks

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        base: nn.Module | None = None,
        fixed: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        data_config = dataset.config
        self.device = data_config["device"]
        self.options = KernelOptions.of(config["kernel_args"], "kernel_args")
        training = IAKOptions.of(config["iak_args"], "iak_args")
        checkpoint = None if base is not None else base_of(config)[1]
        self.base_trained = base is not None or checkpoint is not None
        if base is None:
            # The initial kernels do not depend on whether the base is built here.
            with torch.random.fork_rng():
                base = make_base(dataset, checkpoint)
        self.base = base.requires_grad_(False).eval()
        families = [family_of(data_config["model"], base, layer) for layer in self.options.layers]
        self.family = families[-1]
        self.attachments = [Attachment(base, family.place) for family in families]
        self.widths, self.one_vector_per_row = _probed(self.family, self.attachments, base, dataset)
        self.domains = build_all_domains(config, dataset, fixed["domains"] if fixed else None)
        if len(self.domains) > 1 and self.options.combine != "residual":
            raise ConfigError(
                f"kernel_args: combine: got {self.options.combine}, expected residual: several domain types add "
                "their outputs"
            )
        sizes = fixed["sizes"] if fixed else [self._sizes(data_config["model"], training)] * len(self.domains)
        self.banks = Banks(
            Kernels([self._bank(domains, *place) for place in zip(self.widths, of_places, strict=True)])
            for domains, of_places in zip(self.domains, sizes, strict=True)
        ).to(self.device)
        self.items: torch.Tensor | None = None

    @classmethod
    def around(
        cls,
        base: nn.Module,
        family: Family,
        attachments: Sequence[Attachment],
        domains: Sequence[Domains],
        banks: Sequence[Kernels],
    ) -> IAK:
        """Put given banks around a base, without settings and data.

        Args:
            base: frozen here.
            family: how to read losses, vectors and scores from the base.
            attachments: where the kernels are attached.
            domains: one entry for each type of domain.
            banks: kernels of each type, with a bank for each place.
        """
        model = cls.__new__(cls)
        AbstractRecommender.__init__(model)
        model.base = base.requires_grad_(False).eval()
        model.family, model.attachments, model.domains = family, list(attachments), tuple(domains)
        model.banks = Banks(banks)
        model.items = None
        return model

    def _bank(self, domains: Domains, width: int, sizes: Sequence[int]) -> IAKKernelBank:
        bottleneck, code, aux = sizes
        learned = self.options.prior == "learned"
        return IAKKernelBank(
            len(domains), width, bottleneck, code, self.options.combine, self.options.stochastic, learned, aux
        )

    def _sizes(self, base_name: str, training: IAKOptions) -> list[tuple[int, int, int]]:
        """Return bottleneck, code size and width of the auxiliary head (0: none) of the kernels at each place.

        The last place alone has such a head: what predicts is there.
        """
        aux = 0
        if training.lambda_c or training.schedule == "two_phase":
            if not self.one_vector_per_row:
                place = self.attachments[-1].place
                raise ConfigError(
                    f"iak_args: lambda_c: {place} has several vectors per row, of which none predicts: set it to 0"
                )
            if self.family.items is None and not hasattr(self.base, "LABEL"):
                raise ConfigError(f"iak_args: lambda_c: what {base_name} predicts is not known; set it to 0")
            aux = 1 if self.family.items is None else self.family.items(self.base).shape[1]
        heads = [0] * (len(self.widths) - 1) + [aux]
        return [(*self._kernel_sizes(width, head), head) for width, head in zip(self.widths, heads, strict=True)]

    def _kernel_sizes(self, width: int, aux: int) -> tuple[int, int]:
        options = self.options
        bottleneck, code = default_sizes(width)
        if options.budget is None:
            return options.bottleneck or bottleneck, options.code_size or code
        if options.bottleneck or options.code_size:
            raise ConfigError("kernel_args: budget: give either a budget or sizes (bottleneck, code_size)")
        whole = sum(weight.numel() for weight in self.base.parameters())
        prior = 2 if options.prior == "learned" and options.stochastic else 0
        each = options.budget * whole / len(self.widths)
        sizes = sizes_within(each - prior * code, width, aux, options.combine)
        if sizes is None:
            raise ConfigError(
                f"kernel_args: budget: {options.budget} of the base's {whole:,} parameters is too small for any kernel"
            )
        return sizes

    def train(self, mode: bool = True) -> IAK:
        """Switch the kernels to `mode`; the base stays in eval (no dropout, fixed BatchNorm statistics)."""
        super().train(mode)
        self.base.eval()
        return self

    def domain_of(self, interaction: Interaction) -> torch.Tensor:
        """Return the domains of a batch, int64 [B, types], -1 = none."""
        if DOMAIN_FIELD in interaction:
            return interaction[DOMAIN_FIELD]
        return torch.stack([domains.of(interaction) for domains in self.domains], dim=1)

    def adapt(self, hidden: torch.Tensor, domain: torch.Tensor, place: int = 0) -> torch.Tensor:
        """Return H' of vectors [B, ..., d] with domains [B, types]; vectors of one row share its domain.

        Args:
            hidden: H [B, ..., d], vectors inside the base.
            domain: int64 [B, types], domains of each row; -1 for none.
            place: number of the place.
        """
        flat, each = _rows(hidden, domain)
        banks = [kernels.places[place] for kernels in self.banks]
        return _added(flat, [bank(flat, each[:, number]) for number, bank in enumerate(banks)]).reshape(hidden.shape)

    def _passes(self, hidden: torch.Tensor, domain: torch.Tensor, place: int) -> tuple[torch.Tensor, list[BankOutput]]:
        """Return H' and all intermediate results that the loss needs."""
        flat, each = _rows(hidden, domain)
        banks = [kernels.places[place] for kernels in self.banks]
        passes = [bank.run(flat, each[:, number]) for number, bank in enumerate(banks)]
        return _added(flat, [done.hidden for done in passes]).reshape(hidden.shape), passes

    @contextmanager
    def _using(self, adapt: Callable[[torch.Tensor, int], torch.Tensor]) -> Iterator[None]:
        """Pass the vectors at every place through `adapt`, which gets the number of the place too."""
        with ExitStack() as stack:
            for number, attachment in enumerate(self.attachments):
                stack.enter_context(attachment.using(partial(_at, adapt, number)))
            yield

    def losses(self, interaction: Interaction) -> Losses:
        """Return all parts of the loss in one pass of the base."""
        domain, passes, distances = self.domain_of(interaction), [], []

        def through(hidden: torch.Tensor, place: int) -> torch.Tensor:
            # The base is frozen, but behind the first place `hidden` leads to the kernels before.
            adapted, done = self._passes(hidden, domain, place)
            passes.extend(done)
            distances.append(F.mse_loss(adapted, hidden))
            return adapted

        with self._using(through):
            matching = self.family.loss(self.base, interaction)
        zero = matching.new_zeros(())
        compression = [self._compression(done.aux, interaction) for done in passes if done.aux is not None]
        kl = sum((done.kl.mean() for done in passes), zero)
        return Losses(matching, sum(compression, zero), kl, sum(distances, zero))

    def _compression(self, read: torch.Tensor, interaction: Interaction) -> torch.Tensor:
        """Return the auxiliary head's task loss on the code: of a click's logit, or of a vector among frozen items."""
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
        """Return the items of the frozen base, [num_items, d]; computed once."""
        if self.items is None:
            assert self.family.items is not None, "of a model that ranks"
            self.items = self.family.items(self.base).detach()
        return self.items

    def forget_base(self) -> None:
        """Drop all that was computed from the base, whose weights have changed."""
        self.items = None
        for attachment in self.attachments:
            attachment.forget()
        forget_cached(self.base)

    def calculate_loss(self, interaction: Interaction) -> torch.Tensor:
        """Return the matching loss alone; the trainer weighs all parts (`losses`)."""
        return self.losses(interaction).matching

    def predict(self, interaction: Interaction) -> torch.Tensor:
        """Return the base's `predict` with kernels."""
        domain = self.domain_of(interaction)
        with self._using(lambda hidden, place: self.adapt(hidden, domain, place)):
            return self.base.predict(interaction)

    def full_sort_predict(self, interaction: Interaction) -> torch.Tensor:
        """Return the base's `full_sort_predict` with kernels."""
        domain = self.domain_of(interaction)
        with self._using(lambda hidden, place: self.adapt(hidden, domain, place)):
            return self.base.full_sort_predict(interaction)


def _at(adapt: Callable[[torch.Tensor, int], torch.Tensor], place: int, hidden: torch.Tensor) -> torch.Tensor:
    return adapt(hidden, place)


def _rows(hidden: torch.Tensor, domain: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Flatten vectors [B, ..., d] to rows, with the domains of each."""
    inner = hidden[0, ..., 0].numel() if len(hidden) else 1
    return hidden.reshape(-1, hidden.shape[-1]), domain.repeat_interleave(inner, dim=0) if inner > 1 else domain


def _added(flat: torch.Tensor, adapted: list[torch.Tensor]) -> torch.Tensor:
    """Return one bank's vectors, or the sum of the changes of several."""
    return adapted[0] if len(adapted) == 1 else adapted[0] + sum(further - flat for further in adapted[1:])


def domain_specs(config: Config) -> list[DomainSpec]:
    """Parse the setting `domain`.

    Raises:
        ConfigError: no field, a field of unknown form, or one that is specified more than once.
    """
    specs = [parse_domain(text) for text in config["domain"] or []]
    if not specs:
        raise ConfigError(
            "domain: name the field that tells domains apart, as in --domain=occupation or --domain=age:25/35/45"
        )
    if len({spec.text for spec in specs}) < len(specs):
        raise ConfigError("domain: a domain is specified more than once")
    return specs


def build_all_domains(
    config: Config, train_set: Dataset, fixed: Sequence[Mapping[str, Any]] | None = None
) -> tuple[Domains, ...]:
    """Build every type of domain that the setting `domain` names.

    Args:
        config: `domain`, `control` and `seed`.
        train_set: RecBole's built training set.
        fixed: `names` and `edges` of each type in an earlier run; None: from the data.

    Raises:
        ConfigError: no field is named, or one does not fit the data.
    """
    specs = domain_specs(config)
    found = [build_domains(spec, train_set, fixed[number] if fixed else None) for number, spec in enumerate(specs)]
    if config["control"] == PERMUTED:
        found = [permuted(domains, train_set, config["seed"]) for domains in found]
    return tuple(found)


def _probed(
    family: Family, attachments: Sequence[Attachment], base: AbstractRecommender, dataset: Dataset
) -> tuple[list[int], bool]:
    """Run the base on a few training rows: width of the vectors at each place, and whether the last has one per row."""
    state = np.random.get_state()
    try:
        rows = training_rows(base, dataset)
        batch = training_loader(dataset).collate_fn(np.flatnonzero(rows)[:3].tolist())
    finally:
        np.random.set_state(state)  # sampling negatives here must not change those of the training
    batch = batch.to(dataset.config["device"])
    widths, inner = [], 1
    for attachment in attachments:
        width, inner = probe(attachment, lambda: family.loss(base, batch), len(batch))
        probe(attachment, lambda: base.predict(batch), len(batch))
        widths.append(width)
    return widths, inner == 1
