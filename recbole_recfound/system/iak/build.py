"""From a run's settings and a trained base to a model with kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from recbole.utils import ModelType
from torch import nn

from recbole_recfound.config.configurator import Config
from recbole_recfound.config.models import get_model
from recbole_recfound.data.domain import Domains
from recbole_recfound.data.split.protocol import Splits
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.iak import IAK
from recbole_recfound.model.kernel import IAKKernelBank, default_sizes, sizes_within
from recbole_recfound.model.pretrained import Attachment, BaseCheckpoint, Family, family_of, probe
from recbole_recfound.model.pretrained.checkpoint import load_weights


@dataclass(frozen=True)
class Plug:
    """A base, and where kernels go.

    Attributes:
        base: the model.
        family: its place, items and loss.
        attachment: the place.
        width: d, of the vectors there.
        rows_kept: whether there is one vector per row (else an auxiliary head has no row to predict).
        collate: training rows to a batch.
        trainable: bool [N], training rows that can be drawn.
    """

    base: nn.Module
    family: Family
    attachment: Attachment
    width: int
    rows_kept: bool
    collate: Callable[[list[int]], Any]
    trainable: np.ndarray


def make_base(splits: Splits, checkpoint: BaseCheckpoint | None) -> nn.Module:
    """The base with the weights of its checkpoint, or untrained.

    Raises:
        ConfigError: the checkpoint belongs to other data or another model.
    """
    config = splits.config
    if config["model"] == "RecFound":
        from recbole_recfound.system.recfound.load import load_recfound_base

        return load_recfound_base(checkpoint.path, splits)
    base = get_model(config["model"])(config, splits.train_set).to(config["device"])
    if checkpoint is not None:
        load_weights(base, checkpoint)
    return base


def plug_in(splits: Splits, base: nn.Module, layer: str | None) -> Plug:
    """Find the place for kernels in a base and try it with a batch.

    Raises:
        ConfigError: the place does not exist or gives no vectors.
    """
    config = splits.config
    base.eval()
    family = family_of(config["model"], base, layer)
    attachment = Attachment(base, family.place)
    collate, trainable = splits.train_data.collate_fn, np.ones(len(splits.train_set), dtype=bool)
    if config["model"] == "RecFound":
        from recbole_recfound.system.recfound.load import HistoryCollate

        collate = HistoryCollate(splits)
        trainable = collate.before > 0
    batch = collate(np.flatnonzero(trainable)[:3].tolist()).to(config["device"])

    width, inner = probe(attachment, lambda: family.loss(base, batch), len(batch))
    probe(attachment, lambda: base.predict(batch), len(batch))
    return Plug(base, family, attachment, width, inner == 1, collate, trainable)


def make_model(plug: Plug, domains: Sequence[Domains], config: Config) -> IAK:
    """The base with an untrained bank for each type of domain.

    Raises:
        ConfigError: sizes or combinations that cannot be.
    """
    if len(domains) > 1 and config["iak_combine"] != "residual":
        raise ConfigError(
            f"iak_combine: {config['iak_combine']}, but several types of domain add their outputs: residual"
        )
    aux = 0
    if config["iak_lambda_c"] or config["iak_schedule"] == "two_phase":
        if not plug.rows_kept:
            raise ConfigError(
                f"iak_lambda_c: {plug.attachment.place} has several vectors per row, of which none predicts: set it to 0"
            )
        if plug.family.items is None and not hasattr(plug.base, "LABEL"):
            raise ConfigError(f"iak_lambda_c: what {config['model']} predicts is not known; set it to 0")
        aux = 1 if plug.family.items is None else plug.family.items(plug.base).shape[1]
    bottleneck, code = kernel_sizes(plug, aux, config)
    return assemble(plug, domains, [(bottleneck, code, aux)] * len(domains), config)


def assemble(plug: Plug, domains: Sequence[Domains], sizes: Sequence[tuple[int, int, int]], config: Config) -> IAK:
    """The model with a new bank for each type of domain.

    Args:
        plug: the base and the place for kernels.
        domains: one entry for each type.
        sizes: of each type's kernels: bottleneck, code, and what the auxiliary head gives (0: no head).
        config: `iak_combine`, `iak_stochastic`, `iak_prior` and the device.
    """
    learned = config["iak_prior"] == "learned"
    banks = [
        IAKKernelBank(
            len(found), plug.width, bottleneck, code, config["iak_combine"], config["iak_stochastic"], learned, aux
        )
        for found, (bottleneck, code, aux) in zip(domains, sizes, strict=True)
    ]
    return IAK(plug.base, plug.family, plug.attachment, domains, [bank.to(config["device"]) for bank in banks])


def kernel_sizes(plug: Plug, aux: int, config: Config) -> tuple[int, int]:
    """Bottleneck and code size from `iak_bottleneck`, `iak_code_size` or `iak_budget`.

    Raises:
        ConfigError: the budget is given beside sizes, or too small for any kernel.
    """
    bottleneck, code = default_sizes(plug.width)
    if config["iak_budget"]:
        if config["iak_bottleneck"] or config["iak_code_size"]:
            raise ConfigError("iak_budget: give either a budget or sizes (iak_bottleneck, iak_code_size)")
        whole = sum(weight.numel() for weight in plug.base.parameters())
        prior = 2 if config["iak_prior"] == "learned" and config["iak_stochastic"] else 0
        found = sizes_within(config["iak_budget"] * whole - prior * code, plug.width, aux, config["iak_combine"])
        if found is None:
            raise ConfigError(
                f"iak_budget: {config['iak_budget']} of the base's {whole:,} parameters is too little for any kernel"
            )
        return found
    return config["iak_bottleneck"] or bottleneck, config["iak_code_size"] or code


def training_domains(domains: Domains, splits: Splits, trainable: np.ndarray) -> np.ndarray:
    """int64 [N], domain of each training row, -1 for rows that are not drawn."""
    found = domains.of(splits.train_set.inter_feat).numpy().copy()
    found[~trainable] = -1
    return found


def kernel_rows(domains: Sequence[Domains], splits: Splits, trainable: np.ndarray) -> tuple[np.ndarray, int]:
    """What the kernels of all types are trained on.

    Returns:
        int64 [N], domain of the first type of each training row; rows without one that have a domain of another type get a number of
        their own behind these; -1 for rows that are not drawn. And how many numbers there are.
    """
    found, *further = (training_domains(one, splits, trainable) for one in domains)
    number = len(domains[0])
    if not further:
        return found, number
    found[(found < 0) & (np.max(further, axis=0) >= 0)] = number
    return found, number + 1


def check_labels(splits: Splits) -> None:
    """Click models need a column of labels.

    Raises:
        ConfigError: there is none.
    """
    config = splits.config
    label = config["LABEL_FIELD"]
    if config["MODEL_TYPE"] == ModelType.CONTEXT and label not in splits.dataset.inter_feat.columns:
        raise ConfigError(
            f"threshold: {config['model']} predicts clicks, but there is no column {label!r}; make one from ratings: --threshold={{rating: 4}}"
        )
