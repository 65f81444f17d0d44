"""RecBole's models on the tiny data set, with kernels attached, without training them for long."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from recbole.utils import init_seed

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.domain import Domains
from recbole_recfound.data.split.protocol import Splits
from recbole_recfound.evaluation.domains import DomainScorer
from recbole_recfound.model.iak import IAK
from recbole_recfound.model.pretrained.make import make_base
from recbole_recfound.sampler.domain_batches import DomainBatchSampler
from recbole_recfound.system.iak.system import IAKSystem
from recbole_recfound.system.request import Request
from recbole_recfound.trainer.iak import IAKTrainer, collate_of, kernel_rows
from recbole_recfound.trainer.kernels import KernelTrainer, KernelTraining

CLICKS = {
    "threshold": {"rating": 4},
    "load_col": {
        "inter": ["user_id", "item_id", "rating", "timestamp"],
        "user": ["user_id", "age", "gender"],
        "item": ["item_id", "release_year"],
    },
}
OPTIONS: dict[str, dict[str, Any]] = {
    "DeepFM": CLICKS | {"base_args": {"mlp_hidden_size": [16, 16]}},
    "DCNV2": CLICKS | {"base_args": {"mlp_hidden_size": [16, 16]}},
    "AutoInt": CLICKS | {"base_args": {"mlp_hidden_size": [16, 16]}},
    "BPR": {"base_args": {"embedding_size": 16}},
    "LightGCN": {"base_args": {"embedding_size": 16}},
    "SASRec": {"base_args": {"hidden_size": 16, "inner_size": 16, "MAX_ITEM_LIST_LENGTH": 8}},
    "GRU4Rec": {"base_args": {"embedding_size": 16, "hidden_size": 16, "MAX_ITEM_LIST_LENGTH": 8}},
}
"""Small versions of the models that are named as tested."""


def small_base(model: str, **base_args: Any) -> dict[str, Any]:
    """Settings of a small base, with further settings of its own."""
    options = OPTIONS[model]
    return options | {"base_model": model, "base_args": options["base_args"] | base_args}


@dataclass(frozen=True)
class SmallIAK:
    """An IAK model with its data; `config` are the base's settings, `run_config` those of the run."""

    run_config: Config
    config: Config
    splits: Splits
    model: IAK
    scorer: DomainScorer

    @property
    def domains(self) -> tuple[Domains, ...]:
        return self.model.domains

    @property
    def plug(self) -> SimpleNamespace:
        model = self.model
        collate = collate_of(self.splits.train_data)
        return SimpleNamespace(base=model.base, family=model.family, width=model.widths[-1], collate=collate)

    def batch(self, rows: int = 40):
        """The first training rows as RecBole's trainer gets them."""
        return self.plug.collate(list(range(rows)))

    def trainer(self, **changes) -> KernelTrainer:
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
        train_set = self.splits.train_set
        drawn = IAKTrainer(self.run_config, self.model).rows_for_kernels(train_set)
        rows, number = kernel_rows(self.domains, train_set, drawn)
        apart = number - len(self.domains[0])
        sampler = DomainBatchSampler(rows, number, 32, "dynamic", options["epochs"], options["least_steps"], 0, apart)
        training = KernelTraining(**options)
        return KernelTrainer(self.model, sampler, self.plug.collate, self.scorer, training, torch.device("cpu"))

    def base_scores(self):
        """The scores that kernels must beat."""
        collected = self.scorer.collect(self.model.base, "valid")
        return [self.scorer.valid_scores(collected, number) for number in range(len(self.domains))]


def build_small_iak(model: str, data_path, **changes) -> SmallIAK:
    """An untrained base of a kind, with kernels by gender (or `domain` in `changes`)."""
    settings = {
        "data_path": str(data_path),
        "show_progress": False,
        "use_gpu": False,
        "domain": ["gender"],
        "checkpoint_dir": "saved",
    }
    config = IAKSystem.configure(Request("IAK", "tiny", settings | small_base(model) | changes))
    IAKSystem.check(config)
    splits = IAKSystem.open_data(config)
    init_seed(config["seed"], config["reproducibility"])
    kernels = IAK(config, splits.train_set, make_base(splits.train_set, None))
    scorer = IAKTrainer(config, kernels).scorer(splits.train_data, valid=splits.valid_data, test=splits.test_data)
    return SmallIAK(config, splits.config, splits, kernels, scorer)


def run_settings(data: Path, folder: Path) -> dict:
    """Settings of a run of one epoch with kernels by gender, without compression loss."""
    return {
        "data_path": str(data),
        "output_dir": str(folder),
        "show_progress": False,
        "use_gpu": False,
        "time_budget": 0,
        "epochs": 1,
        "domain": ["gender"],
        "iak_args": {"lambda_c": 0},
        "tuning_baselines": [],
    }


def shake(model: IAK, seed: int = 0, size: float = 0.3) -> None:
    """Move every kernel away from its start."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in model.banks.parameters():
            weight.add_(torch.randn_like(weight) * size)
