"""One call from a trained recommender to kernels for its domains, compared with other ways to fine-tune it (IAK)."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.utils import init_seed
from safetensors.torch import load_file

from recbole_recfound.baseline.finetune import METHODS, WHOLE_MODEL, FineTuner, Recipe, build_method
from recbole_recfound.baseline.recbole import fit
from recbole_recfound.config.configurator import Config, settings_of_dict, settings_of_files
from recbole_recfound.config.models import OUR_MODELS
from recbole_recfound.config.property_files import properties_dir, read_settings
from recbole_recfound.data.domain import Domains, build_domains, parse_domain, permuted
from recbole_recfound.data.split.protocol import Splits, build_splits, check_topk, protocol_of, with_training_rows
from recbole_recfound.errors import ConfigError
from recbole_recfound.evaluation.domains import DomainScorer
from recbole_recfound.evaluation.report.iak_page import render_iak_report
from recbole_recfound.evaluation.report.table import format_table, protocol_line
from recbole_recfound.model.pretrained import BaseCheckpoint, base_hash, layer_table, read_base, rows_of_base, save_base
from recbole_recfound.runtime.budget import Budget, turn
from recbole_recfound.runtime.run_folder import RESULTS, RunFolder, resolved_settings, write_text
from recbole_recfound.runtime.versions import versions
from recbole_recfound.sampler.domain_batches import DomainBatchSampler
from recbole_recfound.serving.kernels import CHOSEN, KERNELS, kernel_document, save_kernels, warm_start
from recbole_recfound.system.iak.build import (
    Plug,
    check_labels,
    kernel_rows,
    make_base,
    make_model,
    plug_in,
    training_domains,
)
from recbole_recfound.trainer.iak import IAKOptions, IAKTrainer

CHOSEN_BETA = "IAK, beta by validation"
BASE_SHARE, BASELINES_SHARE = 0.5, 0.8
"""Parts of the time budget after which a base that is trained first, and the baselines, start no further epoch."""
OF_THE_SPLIT = (
    "eval_args",
    "threshold",
    "benchmark_filename",
    "user_inter_num_interval",
    "item_inter_num_interval",
    "val_interval",
    "rm_dup_inter",
    "filter_inter_by_user_or_item",
)
"""What decides which rows the base was trained on: other values would test it on its own training rows."""


def list_layers(config_file_list: Sequence[str] | None, config_dict: dict[str, Any] | None) -> str:
    """The sub-modules of a checkpoint, without loading any data.

    Raises:
        ConfigError: no checkpoint is named, or it may not be opened.
    """
    settings = settings_of_files(config_file_list) | settings_of_dict(config_dict)
    if not settings.get("base_checkpoint"):
        raise ConfigError("list_layers: name a checkpoint with --base_checkpoint=PATH")
    checkpoint = read_base(settings["base_checkpoint"], settings.get("trust_checkpoint", False))
    weights = checkpoint.weights or load_file(
        checkpoint.path / "head.safetensors"
    )  # a RecFound run: what stands around its backbone
    return layer_table(checkpoint.model, weights)


def iak_config(
    dataset: str, config_file_list: Sequence[str] | None, config_dict: dict[str, Any] | None
) -> tuple[Config, BaseCheckpoint | None]:
    """The settings of a run: those of the base from its checkpoint, IAK's own, and the user's over both.

    Args:
        dataset: data set name.
        config_file_list: YAML files.
        config_dict: settings by key.

    Returns:
        A Config whose model is the base, and the checkpoint (None: the base is to be trained).

    Raises:
        ConfigError: wrong settings, or ones that contradict the checkpoint.
    """
    user = settings_of_files(config_file_list) | settings_of_dict(config_dict)
    for key in ("model", "dataset"):
        user.pop(key, None)
    defaults = {setting.key: setting.value for setting in read_settings(properties_dir() / "model" / "IAK.yaml")}
    settings = defaults | user
    if not settings["domain"]:
        raise ConfigError(
            "domain: name the field that tells domains apart, as in --domain=occupation or --domain=age:25/35/45"
        )
    specs = [parse_domain(text) for text in settings["domain"]]
    if len({spec.text for spec in specs}) < len(specs):
        raise ConfigError("domain: the same domain is named twice")
    checkpoint = (
        read_base(settings["base_checkpoint"], settings["trust_checkpoint"]) if settings["base_checkpoint"] else None
    )
    if checkpoint is None:
        if settings["base_model"] in OUR_MODELS:
            raise ConfigError(
                f"base_model: {settings['base_model']} is trained by its own run; name its folder with --base_checkpoint"
            )
        return Config(settings["base_model"], dataset, None, settings, is_base=True), None
    if checkpoint.dataset != dataset:
        raise ConfigError(
            f"dataset: is {dataset}, but {checkpoint.path} was trained on {checkpoint.dataset}: --dataset={checkpoint.dataset}"
        )
    if user.setdefault("iak_base_share", checkpoint.share) != checkpoint.share:
        seen = "all training rows" if checkpoint.share is None else f"{checkpoint.share} of the training rows"
        raise ConfigError(
            f"iak_base_share: is {user['iak_base_share']}, but {checkpoint.path} has seen {seen}; leave it out"
        )
    for key in OF_THE_SPLIT:
        if key in user and not _same_split(key, user[key], checkpoint.settings.get(key)):
            raise ConfigError(
                f"{key}: is {user[key]}, but the base was trained with {checkpoint.settings.get(key)}: with another split it would be "
                "tested on rows it was trained on; leave it out"
            )
    return Config(checkpoint.model, dataset, None, defaults | checkpoint.settings | user, is_base=True), checkpoint


def _same_split(key: str, value: Any, theirs: Any) -> bool:
    """Whether a setting leaves the base's split as it is; of eval_args only what decides who is held out counts."""
    if key != "eval_args" or theirs is None:
        return value == theirs
    return all(value.get(part, theirs.get(part)) == theirs.get(part) for part in ("split", "order", "group_by"))


def run_iak(
    dataset: str = "ml-100k",
    config_file_list: Sequence[str] | None = None,
    config_dict: dict[str, Any] | None = None,
    baselines: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Fine-tune a trained model for its domains; see `run_recfound` for what comes back.

    Args:
        dataset: RecBole data set name.
        config_file_list: YAML files.
        config_dict: settings by key; they win.
        baselines: other ways of fine-tuning for the table; None takes the config's.

    Raises:
        ConfigError, DataError: found before anything expensive starts.
        TrainingError: training cannot go on.
    """
    given = dict(config_dict or {})
    if baselines is not None:
        given["baselines"] = list(baselines)
    config, checkpoint = iak_config(dataset, config_file_list, given)
    budget = Budget(config["time_budget"])
    check_methods(config)
    # The base's split, whatever the seed of this run: a random split is drawn from the seed.
    init_seed(config["seed"] if checkpoint is None else checkpoint.seed, config["reproducibility"])
    splits = build_splits(config)
    check_labels(splits)
    check_topk(splits)
    domains = [build_domains(parse_domain(text), splits) for text in config["domain"]]
    if config["iak_permute_domains"]:
        domains = [permuted(found, splits.train_set, config["seed"]) for found in domains]
    seed = config["seed"] if checkpoint is None else checkpoint.seed
    known = rows_of_base(splits, config["iak_base_share"], seed)
    init_seed(config["seed"], config["reproducibility"])
    base = make_base(splits, checkpoint)
    plug = _plugged(splits, base, known)
    # What cannot be is found before the base is trained: sizes, kernels to begin from, an evaluation by domain.
    model = make_model(plug, domains, config)
    if config["iak_warm_start"]:
        warm_start(model, Path(config["iak_warm_start"]))
    scorer = DomainScorer(splits, base, domains)
    counts = training_domains(domains[0], splits, plug.trainable)
    if not (counts >= 0).any():
        raise ConfigError(f"domain: no training row has a {domains[0].text}")
    for method in set(config["baselines"]) - {"frozen"}:
        build_method(method, _recipe(plug, splits, 1))
    settings = {**resolved_settings(config), "model": "IAK", "base": config["model"]}
    folder = RunFolder.open("IAK", dataset, settings, config["output_dir"], config["resume"])
    folder.log_to(verbose=False)
    run = _Run(config, splits, folder, budget, domains, known, scorer)
    print(f"{protocol_line(protocol_of(config, splits))}\nrun folder: {folder.path}", flush=True)
    if checkpoint is None:
        base = run.trained_base()
        plug = _plugged(splits, base, known)
    if checkpoint is None or not checkpoint.kept:
        save_base(folder.path / "base", base, config, seed)
    where = folder.path / "base" if checkpoint is None or not checkpoint.kept else checkpoint.path.resolve()
    return run.compare(plug, where, seed)


def _plugged(splits: Splits, base: torch.nn.Module, known: np.ndarray) -> Plug:
    """The base and the place for kernels, which learn from rows that the base has not seen, where there are any."""
    plug = plug_in(splits, base, splits.config["iak_layer"])
    return plug if known.all() else dataclasses.replace(plug, trainable=plug.trainable & ~known)


def check_methods(config: Config) -> None:
    """Refuse baselines that are no ways of fine-tuning, and settings of them that nothing would read.

    Raises:
        ConfigError: an unknown name or setting.
    """
    for name in config["baselines"]:
        if name not in METHODS:
            raise ConfigError(f"baselines: IAK is compared with {', '.join(METHODS)}; there is no {name!r}")
    for name, own in (config["baseline_args"] or {}).items():
        rate = own.get("learning_rate") if isinstance(own, dict) else None
        if (
            name not in config["baselines"]
            or set(own or ()) != {"learning_rate"}
            or not isinstance(rate, (int, float))
            or rate <= 0
        ):
            raise ConfigError(
                f"baseline_args: {name}: {own}: for IAK it can set the learning_rate of one of the baselines, a number above 0"
            )


def _recipe(plug: Plug, splits: Splits, bottleneck: int) -> Recipe:
    return Recipe(plug.base, plug.family, plug.width, bottleneck, lambda: make_base(splits, None))


class _Run:
    """What the stages of a run share."""

    def __init__(
        self,
        config: Config,
        splits: Splits,
        folder: RunFolder,
        budget: Budget,
        domains: list[Domains],
        known: np.ndarray,
        scorer: DomainScorer,
    ) -> None:
        self.config, self.splits, self.folder, self.budget = config, splits, folder, budget
        self.domains, self.known, self.scorer = domains, known, scorer

    def trained_base(self) -> torch.nn.Module:
        """Train the base with RecBole's trainer, or take it from an earlier part of this run."""
        saved = self.folder.path / "base"
        if (saved / "base.json").is_file():
            return make_base(self.splits, read_base(saved, False))
        print(f"training the base {self.config['model']} ...", flush=True)
        self.config["checkpoint_dir"] = str(self.folder.path / "trainer_state")
        rows = self.splits if self.known.all() else with_training_rows(self.splits, self.known)
        row, base = fit(self.config, rows, self.budget.deadline(BASE_SHARE))
        print(
            f"base: {row['valid_metrics']} on validation after {row['train_seconds']:.0f} s {row['note']}", flush=True
        )
        write_text(self.folder.path / "base_row.json", json.dumps(row))
        return base

    def compare(self, plug: Plug, where: Path, seed: int) -> dict[str, Any]:
        """Train kernels and baselines, and write everything."""
        config, scorer = self.config, self.scorer
        options = _options(config, 0.0)
        first = self.domains[0]
        sampler = self._sampler(training_domains(first, self.splits, plug.trainable), len(first), options)
        rows = []
        methods = ["frozen", *(name for name in config["baselines"] if name != "frozen")]
        for number, method in enumerate(methods):
            tuner = FineTuner(
                _recipe(plug, self.splits, make_model(plug, self.domains, config).banks[0].encoder_bias.shape[1]),
                sampler,
                plug.collate,
                scorer,
                self._method_options(method),
                turn(self.budget.deadline(BASELINES_SHARE), len(methods) - number),
            )
            rows.append(self._row(method, lambda: tuner.run(method, config["show_progress"])))
        betas = config["iak_beta"] if isinstance(config["iak_beta"], list) else [config["iak_beta"]]
        sweep = []
        for number, beta in enumerate(betas):
            name = "IAK" if len(betas) == 1 else f"IAK beta={beta:g}"
            row = self._row(
                name, lambda: self._kernels(name, plug, beta, where, turn(self.budget.deadline(), len(betas) - number))
            )
            sweep.append(
                {"beta": beta, "kl": row["kl"], "valid": row["valid_metrics"].get(scorer.kept_by), "model": name}
            )
            rows.append(row)
        chosen = max(rows[-len(betas) :], key=lambda row: scorer.score_of(row["valid_metrics"]))
        if len(betas) > 1:
            rows.append({**chosen, "model": CHOSEN_BETA, "note": f"that of {chosen['model']}"})
        write_text(self.folder.path / CHOSEN, json.dumps({"kernels": chosen["kernels"]}))
        return self._finish(plug, rows, chosen, sweep, scorer.kept_by, seed)

    def _row(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """A row as kept by an earlier part of this run, or computed and kept."""

        def scored() -> dict[str, Any]:
            print(f"{name} ...", flush=True)
            init_seed(self.config["seed"], self.config["reproducibility"])
            row = {**compute(), "model": name}
            metric = self.config["valid_metric"].lower()
            if row["weighted"].get(metric) is not None:
                row["metrics"] = {**row["metrics"], f"weighted {metric}": row["weighted"][metric]}
            return row

        return self.folder.row(name, scored)

    def _method_options(self, method: str) -> IAKOptions:
        """IAK's options, with a method's own learning rate: the base's for methods that train the whole model."""
        config, own = self.config, (self.config["baseline_args"] or {}).get(method) or {}
        usual = config["learning_rate"] if method in WHOLE_MODEL else config["iak_learning_rate"]
        return dataclasses.replace(_options(config, 0.0), learning_rate=own.get("learning_rate", usual))

    def _sampler(self, rows: np.ndarray, number: int, options: IAKOptions) -> DomainBatchSampler:
        """Batches of training rows, by the domain of each; a number behind those of the first type's domains is for rows without one."""
        config, apart = self.config, number - len(self.domains[0])
        return DomainBatchSampler(
            rows,
            number,
            config["iak_batch_size"],
            config["iak_sampling"],
            options.epochs,
            options.least_steps,
            config["seed"],
            apart,
        )

    def _kernels(self, name: str, plug: Plug, beta: float, where: Path, late: float | None) -> dict[str, Any]:
        """Train one bank and score it."""
        config, options, scorer = self.config, _options(self.config, beta), self.scorer
        model = make_model(plug, self.domains, config)
        if config["iak_warm_start"]:
            warm_start(model, Path(config["iak_warm_start"]))
        base_valid = scorer.collect(plug.base, "valid")
        sampler = self._sampler(*kernel_rows(self.domains, self.splits, plug.trainable), options)
        trainer = IAKTrainer(model, sampler, plug.collate, scorer, options, config["device"], late)
        fitted = trainer.fit(
            [scorer.valid_scores(base_valid, number) for number in range(len(self.domains))],
            config["show_progress"],
            warm=bool(config["iak_warm_start"]),
        )
        valid = scorer.metrics(scorer.collect(model, "valid"), "valid")
        started = time.monotonic()
        test = scorer.summary(scorer.collect(model, "test"), "test")
        scored = time.monotonic() - started
        path = self.folder.path / f"{name.replace(' ', '-')}.{KERNELS}"
        save_kernels(model, path)
        document = kernel_document(model, config, base_hash(plug.base, config["model"]), where, self.folder.path)
        write_text(path.with_suffix(".json"), json.dumps(document, indent=1))
        bank = model.banks[0]
        on = [int(bank.enabled.sum()) for bank in model.banks]
        return {
            **test,
            "valid_metrics": valid,
            "train_seconds": fitted.seconds,
            "eval_seconds": scored,
            "trainable_parameters": sum(weight.numel() for weight in model.banks.parameters()),
            "parameters_per_domain": sum(bank.trained_per_domain() for bank in model.banks),
            "checkpoint_bytes": path.stat().st_size,
            "converged": fitted.converged,
            "epochs": fitted.epochs,
            "enabled": {found.text: bank.enabled.tolist() for found, bank in zip(self.domains, model.banks)},
            "best_epoch": {found.text: epochs.tolist() for found, epochs in zip(self.domains, fitted.best_epoch)},
            "batch_sizes": sampler.sizes[: bank.num_domains].tolist(),
            "domain_steps": fitted.steps.tolist(),
            "kl": _kl_at_end(fitted.history),
            "curves": _thinned(fitted.history),
            "kernels": path.name,
            "note": "; ".join(
                f"kernels on in {count} of {len(found)} domains ({found.text})"
                for count, found in zip(on, self.domains)
            )
            + ("" if fitted.converged else f"; stopped after {fitted.epochs} epochs"),
        }

    def _finish(
        self,
        plug: Plug,
        rows: list[dict[str, Any]],
        chosen: dict[str, Any],
        sweep: list[dict[str, Any]],
        kept_by: str,
        seed: int,
    ) -> dict[str, Any]:
        config = self.config
        results = {
            "model": "IAK",
            "base": config["model"],
            "dataset": config["dataset"],
            "protocol": protocol_of(config, self.splits),
            "domains": [found.text for found in self.domains],
            "layer": plug.attachment.place,
            "base_parameters": sum(weight.numel() for weight in plug.base.parameters()),
            "rows": rows,
            "chosen": chosen["model"],
            "sweep": sweep,
            "kept_by": kept_by,
            "versions": versions(),
            "seed": config["seed"],
            "split_seed": seed,
            "run": {"total_seconds": self.budget.elapsed()},
        }
        write_text(self.folder.path / "report.html", render_iak_report(results))
        write_text(self.folder.path / RESULTS, json.dumps(results, indent=1, ensure_ascii=False))
        print(f"\n{protocol_line(results['protocol'])}\n{format_table(rows)}", flush=True)
        print(f"{results['run']['total_seconds']:.0f} s in all\nreport: {self.folder.path / 'report.html'}", flush=True)
        return {
            "best_valid_score": chosen["valid_metrics"][config["valid_metric"].lower()],
            "valid_score_bigger": config["valid_metric_bigger"],
            "best_valid_result": chosen["valid_metrics"],
            "test_result": chosen["metrics"],
            "comparison": rows,
            "run_dir": str(self.folder.path),
        }


def _options(config: Config, beta: float) -> IAKOptions:
    return IAKOptions(
        config["iak_epochs"],
        config["iak_learning_rate"],
        beta,
        config["iak_lambda_c"],
        config["iak_lambda_kd"],
        config["iak_schedule"],
        config["iak_stopping_step"],
        config["iak_least_steps"],
        config["iak_cold"],
    )


def _kl_at_end(history: list[dict[str, float]]) -> float:
    """Mean KL over the last tenth of the steps, in nats."""
    last = history[-max(1, len(history) // 10) :]
    return sum(record["kl"] for record in last) / len(last) if last else 0.0


def _thinned(history: list[dict[str, float]], points: int = 200) -> list[dict[str, float]]:
    """At most so many points, each the mean over its steps."""
    width = -(-len(history) // points) if history else 1
    found = []
    for start in range(0, len(history), width):
        part = history[start : start + width]
        found.append(
            {
                "step": part[-1]["step"],
                **{key: sum(r[key] for r in part) / len(part) for key in ("matching", "compression", "kl")},
            }
        )
    return found
