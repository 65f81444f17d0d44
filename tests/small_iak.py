"""RecBole's models on the tiny data set, plugged with kernels, without training them for long."""

from dataclasses import dataclass
from typing import Any

import torch
from recbole.utils import init_seed

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.domain import Domains, build_domains, parse_domain
from recbole_recfound.data.split.protocol import Splits, build_splits
from recbole_recfound.evaluation.domains import DomainScorer
from recbole_recfound.model.iak import IAK
from recbole_recfound.sampler.domain_batches import DomainBatchSampler
from recbole_recfound.system.iak.build import Plug, kernel_rows, make_base, make_model, plug_in
from recbole_recfound.system.iak.finetune import iak_config
from recbole_recfound.trainer.iak import IAKOptions, IAKTrainer

CLICKS = {
    "threshold": {"rating": 4},
    "load_col": {
        "inter": ["user_id", "item_id", "rating", "timestamp"],
        "user": ["user_id", "age", "gender"],
        "item": ["item_id", "release_year"],
    },
}
OPTIONS: dict[str, dict[str, Any]] = {
    "DeepFM": CLICKS | {"mlp_hidden_size": [16, 16]},
    "DCNV2": CLICKS | {"mlp_hidden_size": [16, 16]},
    "AutoInt": CLICKS | {"mlp_hidden_size": [16, 16]},
    "BPR": {"embedding_size": 16},
    "LightGCN": {"embedding_size": 16},
    "SASRec": {"hidden_size": 16, "inner_size": 16, "MAX_ITEM_LIST_LENGTH": 8},
    "GRU4Rec": {"embedding_size": 16, "hidden_size": 16, "MAX_ITEM_LIST_LENGTH": 8},
}
"""Small versions of the models that are named as tested."""


@dataclass(frozen=True)
class SmallIAK:
    """What a test needs."""

    config: Config
    splits: Splits
    plug: Plug
    domains: list[Domains]
    model: IAK
    scorer: DomainScorer

    def batch(self, rows: int = 40):
        """The first training rows as RecBole's trainer gets them."""
        return self.plug.collate(list(range(rows)))

    def trainer(self, **changes) -> IAKTrainer:
        """A trainer of this model."""
        options = {
            "epochs": 3,
            "learning_rate": 0.01,
            "beta": 1e-3,
            "lambda_c": 0.1,
            "lambda_kd": 0.0,
            "schedule": "joint",
            "stopping_step": 5,
            "least_steps": 0,
            "cold": "base",
        } | changes
        rows, number = kernel_rows(self.domains, self.splits, self.plug.trainable)
        apart = number - len(self.domains[0])
        sampler = DomainBatchSampler(rows, number, 32, "dynamic", options["epochs"], options["least_steps"], 0, apart)
        return IAKTrainer(
            self.model, sampler, self.plug.collate, self.scorer, IAKOptions(**options), torch.device("cpu")
        )

    def base_scores(self):
        """What kernels must beat."""
        collected = self.scorer.collect(self.plug.base, "valid")
        return [self.scorer.valid_scores(collected, number) for number in range(len(self.domains))]


def build_small_iak(model: str, data_path, **changes) -> SmallIAK:
    """An untrained base of a kind, with kernels by gender (or `domain` in `changes`)."""
    settings = {
        "data_path": str(data_path),
        "show_progress": False,
        "use_gpu": False,
        "base_model": model,
        "domain": ["gender"],
        "checkpoint_dir": "saved",
    }
    config, _ = iak_config("tiny", None, settings | OPTIONS[model] | changes)
    init_seed(config["seed"], config["reproducibility"])
    splits = build_splits(config)
    plug = plug_in(splits, make_base(splits, None), config["iak_layer"])
    domains = [build_domains(parse_domain(text), splits) for text in config["domain"]]
    return SmallIAK(
        config, splits, plug, domains, make_model(plug, domains, config), DomainScorer(splits, plug.base, domains)
    )


def shake(model: IAK, seed: int = 0, size: float = 0.3) -> None:
    """Move every kernel away from its start."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in model.banks.parameters():
            weight.add_(torch.randn_like(weight) * size)
