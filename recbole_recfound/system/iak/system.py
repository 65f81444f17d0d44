"""IAK as a system: kernels for the domains of a frozen recommender, compared with other ways of fine-tuning it."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from recbole.utils import init_seed

from recbole_recfound.atomic.dataset import ROUNDED
from recbole_recfound.baseline.finetune import WHOLE_MODEL, FineTuner, Recipe, build_method
from recbole_recfound.baseline.recbole import fit
from recbole_recfound.config.configurator import Config, metric_problems
from recbole_recfound.config.settings import refuse
from recbole_recfound.data.split.digest import check_data, data_digest
from recbole_recfound.data.split.protocol import Splits, build_splits, check_labels, check_topk, training_part
from recbole_recfound.errors import ConfigError, DataError
from recbole_recfound.evaluation.report.table import WEIGHTED
from recbole_recfound.evaluation.results import Row, not_converged
from recbole_recfound.model.iak import IAK, domain_specs
from recbole_recfound.model.kernel.files import CHOSEN, KERNELS, kernel_document, save_kernels, warm_start
from recbole_recfound.model.kernel.options import IAKOptions
from recbole_recfound.model.pretrained import base_hash, read_base, write_base
from recbole_recfound.model.pretrained.base_config import base_of
from recbole_recfound.model.pretrained.make import make_base
from recbole_recfound.runtime.exchange import on_main
from recbole_recfound.runtime.file_digests import file_digest, is_intact, remove_folder, whole_folder
from recbole_recfound.runtime.ranks import is_main, world
from recbole_recfound.runtime.run_folder import write_text
from recbole_recfound.runtime.time_plan import turn
from recbole_recfound.system.base import System
from recbole_recfound.system.iak.load import load_iak
from recbole_recfound.system.iak.page import render_iak_report
from recbole_recfound.system.registry import register_system
from recbole_recfound.system.request import Request
from recbole_recfound.system.run import Job, Run
from recbole_recfound.trainer.checkpoint import CheckpointStore
from recbole_recfound.trainer.iak import IAKTrainer, collate_of, training_domains

SELECTED_BETA = "IAK, beta by validation"
BASE_SHARE, TUNING_SHARE = 0.5, 0.8
"""Parts of the time budget after which a base that is trained first, and other ways of fine-tuning, start no epoch."""
FROZEN = "frozen"
"""Row of the base itself; always in the table."""


@register_system("IAK")
class IAKSystem(System):
    """IAK's run: the base (trained first without a checkpoint), other ways of fine-tuning, kernels.

    Raises:
        ConfigError: sizes, places, domains or methods that do not fit the base.
    """

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        assert run.splits is not None
        self.config, self.splits, self.plan = run.config, run.splits, run.plan
        self.options = IAKOptions.of(self.config["iak_args"], "iak_args")
        self.train_set = self.splits.train_set
        init_seed(self.config["seed"], self.config["reproducibility"])
        self.checkpoint = base_of(self.config)[1]
        self.base_training = self.checkpoint.training if self.checkpoint is not None else None
        base = make_base(self.train_set, self.checkpoint)
        # Everything that can be wrong is refused before the base is trained.
        self.model = IAK(self.config, self.train_set, base)
        if self.options.warm_start:
            warm_start(self.model, Path(self.options.warm_start))
        trainer = IAKTrainer(self.config, self.model)
        self.seen = trainer.seen_by_base(self.train_set)
        self.split_seed = trainer.split_seed
        self.scorer = trainer.scorer(self.splits.train_data, valid=self.splits.valid_data, test=self.splits.test_data)
        first = self.model.domains[0]
        rows = trainer.rows_for_kernels(self.train_set)
        if not (training_domains(first, self.train_set, rows) >= 0).any():
            raise ConfigError(f"domain: no training row has a {first.text}")
        for method in set(self.config["tuning_baselines"]) - {FROZEN}:
            build_method(method, self._recipe(base, 1))
        self.sweep: list[dict[str, Any]] = []
        self.without_domain = {
            domains.text: {
                "train": int((training_domains(domains, self.train_set, rows)[rows] < 0).sum()),
                "test": int((self.scorer.domain["test"][:, number] < 0).sum()),
            }
            for number, domains in enumerate(self.model.domains)
        }
        self.rows_in_all = {"train": int(rows.sum()), "test": len(self.scorer.domain["test"])}

    # Settings --------------------------------------------------------------------------------------------------------

    @classmethod
    def configure(cls, request: Request) -> Config:
        """Return the settings of the run, with those that follow from the base."""
        settings = dict(request.settings)
        # They may fit the base, and not the defaults of models that rank.
        given = {key: settings.pop(key) for key in ("metrics", "topk", "valid_metric") if key in settings}
        config = Config(cls.name, request.dataset, None, settings)
        config.external_config_dict |= given
        domain_specs(config)
        base_of(config)
        if "valid_metric" in given:
            config["valid_metric"] = given["valid_metric"]
        refuse(metric_problems(config["metrics"], config["topk"], config["valid_metric"]))
        return config

    @classmethod
    def check(cls, config: Config) -> None:
        """Refuse options of ways of fine-tuning that are not in the table."""
        problems = []
        for name, own in (config["tuning_args"] or {}).items():
            rate = own.get("learning_rate") if isinstance(own, dict) else None
            single = isinstance(own, dict) and set(own) == {"learning_rate"}
            if name not in config["tuning_baselines"] or not single or not isinstance(rate, (int, float)) or rate <= 0:
                problems.append(
                    f"tuning_args: {name}: got {own}, expected {{learning_rate: number above 0}} of a tuning baseline"
                )
        refuse(problems)

    @classmethod
    def open_data(cls, config: Config) -> Splits:
        """Read and split the data as the base's settings say, with the seed of the base's split."""
        base, checkpoint = base_of(config)
        init_seed(config["seed"] if checkpoint is None else checkpoint.seed, config["reproducibility"])
        splits = build_splits(base)
        check_labels(splits)
        check_topk(splits)
        if checkpoint is not None:
            check_data(checkpoint.data, splits, checkpoint.path)
            if checkpoint.data is None:
                print(
                    f"note: {checkpoint.path} does not say with which ids it was trained: the atomic files must be the "
                    "very files of its training, rows in the same order",
                    flush=True,
                )
                if base["order_ties"] == ROUNDED:
                    print(
                        f"note: rows are ordered as RecBole alone orders them (order_ties: {ROUNDED}), as for the "
                        "base's training; one that an older version of this package has trained has another order",
                        flush=True,
                    )
        return cls.with_side_files(splits)

    # Rows ------------------------------------------------------------------------------------------------------------

    def rows(self) -> Iterator[Job]:
        """Yield other ways of fine-tuning, then the kernels of each beta, then the beta that validation chose."""
        for line in self._without_domain():
            print(line, flush=True)
        self._finish_base()
        methods = self._methods
        for number, method in enumerate(methods):
            yield Job(method, partial(self._tuned, method, len(methods) - number), alone=True)
        betas = self.options.betas
        for number, (name, beta) in enumerate(zip(self._names, betas, strict=True)):
            left = len(betas) - number
            yield Job(name, partial(self._kernels, name, beta, left))
            on_main(self._store(name).clear)
            row = self.run.rows[name]
            metric = self.scorer.selected_by
            self.sweep.append(
                {"beta": beta, "kl": row.details["kl"], "valid": row.valid_metrics.get(metric), "model": name}
            )
        if len(betas) > 1:
            chosen = self._selected()
            note = f"that of {chosen.model}{_limited(chosen.converged, chosen.details['epochs'])}"
            yield Job(SELECTED_BETA, lambda: chosen.renamed(SELECTED_BETA, note), resumable=False)

    def _without_domain(self) -> Iterator[str]:
        """Yield a line for each type of domain that some rows do not belong to."""
        for text, counts in self.without_domain.items():
            if any(counts.values()):
                parts = [f"{count:,} of {self.rows_in_all[part]:,} {part} rows" for part, count in counts.items()]
                yield f"domain {text}: {' and '.join(parts)} belong to no domain; the base alone scores them"

    def _selected(self) -> Row:
        """Return the row of the best beta by validation."""
        rows = [self.run.rows[point["model"]] for point in self.sweep]
        return max(rows, key=lambda row: self.scorer.score_of(row.valid_metrics))

    def choose(self, rows: Sequence[Row]) -> Row:
        """Return the kernels that validation chose, and name them in the run folder for serving."""
        chosen = self._selected()
        write_text(self.run.folder.path / CHOSEN, json.dumps({"kernels": chosen.details["kernels"]}))
        return chosen

    @cached_property
    def base(self) -> torch.nn.Module:
        """The trained base, frozen."""
        return self.model.base

    def _finish_base(self) -> None:
        """Let the main process train the base where it has no checkpoint; the others read what it has written."""
        self.run.folder  # noqa: B018  (opened by all processes together)
        on_main(self._settle_base)
        if not is_main():
            self._settle_base()

    def _settle_base(self) -> None:
        """Train the base where it has no checkpoint, or take it from an earlier part of this run; write it down."""
        saved = self.run.folder.path / "base"
        if self.checkpoint is None:
            base = self._saved_base(saved) or self._trained_base()
            self.model = IAK(self.config, self.train_set, base)
        outside = self.checkpoint.path if self.checkpoint is not None and self.checkpoint.kept else None
        if outside is None and not is_intact(saved):
            data = data_digest(self.splits)
            config, training = self.splits.config, self.base_training
            with whole_folder(saved) as partial:
                write_base(partial, self.model.base, config, self.split_seed, self._share, data, training)
            shutil.rmtree(self.run.folder.trainer_state, ignore_errors=True)  # RecBole's pickle of it
        self.base_folder = saved if outside is None else outside.resolve()

    def _saved_base(self, saved: Path) -> torch.nn.Module | None:
        """Return the base that an earlier part of this run trained; None: it is to be trained, and all rows with it."""
        if saved.is_dir():
            try:
                checkpoint = read_base(saved, False)
                check_data(checkpoint.data, self.splits, saved)
                self.base_training = checkpoint.training
                return make_base(self.train_set, checkpoint)
            except DataError as error:
                print(f"note: {error}: training it, and the rows that stand on it, again", flush=True)
                remove_folder(saved)
        self.run.folder.forget([*self._methods, *self._names])
        return None

    @property
    def _methods(self) -> list[str]:
        """Ways of fine-tuning, the base itself first."""
        return [FROZEN, *(name for name in self.config["tuning_baselines"] if name != FROZEN)]

    @property
    def _names(self) -> list[str]:
        """Rows of the kernels, one for each beta."""
        betas = self.options.betas
        return [self.name if len(betas) == 1 else f"{self.name} beta={beta:.15g}" for beta in betas]

    @property
    def _share(self) -> float | None:
        return self.options.base_share if self.checkpoint is None else self.checkpoint.share

    def _trained_base(self) -> torch.nn.Module:
        config = self.splits.config
        print(f"training the base {config['model']} ...", flush=True)
        config["checkpoint_dir"] = str(self.run.folder.path / "trainer_state")
        splits = self.splits
        if not self.seen.all():
            part = training_part(splits.train_data, self.seen)
            splits = dataclasses.replace(splits, train_set=part._dataset, train_data=part)
        with self.plan.phase("training of the base"):
            row, base = fit(
                config, splits, self.plan.deadline(BASE_SHARE), state=self.run.folder.trainer_state / "base"
            )
        print(f"base: {row.valid_metrics} on validation after {row.train_seconds:.0f} s {row.note}", flush=True)
        write_text(self.run.folder.path / "base_row.json", json.dumps(row.to_json()))
        self.base_training = row.training
        return base

    def _store(self, name: str) -> CheckpointStore:
        """Return the checkpoints of the kernels of a row."""
        return CheckpointStore(self.run.folder.trainer_state / _slug(name), 1)

    def _recipe(self, base: torch.nn.Module, bottleneck: int) -> Recipe:
        return Recipe(
            base, self.model.family, self.model.widths[-1], bottleneck, lambda: make_base(self.train_set, None)
        )

    def _start(self) -> None:
        """Seed a row: its numbers do not depend on the rows before it."""
        init_seed(self.config["seed"], self.config["reproducibility"])

    def _tuned(self, method: str, left: int) -> Row:
        """Fine-tune one model per domain by another method."""
        model = IAK(self.config, self.train_set, self.base)
        trainer = IAKTrainer(self.config, model)
        own = (self.config["tuning_args"] or {}).get(method) or {}
        usual = self.splits.config["learning_rate"] if method in WHOLE_MODEL else self.config["learning_rate"]
        training = dataclasses.replace(trainer.training(0.0), learning_rate=own.get("learning_rate", usual))
        tuner = FineTuner(
            self._recipe(self.base, model.banks[0].places[-1].encoder_bias.shape[1]),
            trainer.batches(self.train_set, first_type_only=True),
            collate_of(self.splits.train_data),
            self.scorer,
            training,
            turn(self.plan.deadline(TUNING_SHARE), left),
        )
        self._start()
        with self.plan.phase("test" if method == FROZEN else "tuning baselines"):
            row = tuner.run(method, self.config["show_progress"])
        if method == FROZEN:  # its numbers are as good as the training of the base
            row |= self.base_training or {"converged": None}
        return self._row(method, row)

    def _kernels(self, name: str, beta: float, left: int) -> Row:
        """Train the kernels with one value of beta, score them and write them down."""
        self._start()
        config, scorer = self.config, self.scorer
        model = IAK(config, self.train_set, self.base)
        if self.options.warm_start:
            warm_start(model, Path(self.options.warm_start))
        # Of several processes none writes checkpoints of kernels: the row begins again.
        store = self._store(name) if world() == 1 else None
        if store and (before := store.newest(self.config["device"])):
            self.plan.resume(before.state["spent"])
        trainer = IAKTrainer(config, model, beta, turn(self.plan.deadline(), left), store, self.plan)
        _, valid = trainer.fit(
            self.splits.train_data,
            verbose=False,
            saved=False,
            show_progress=config["show_progress"],
            callback_fn=self.run.watch,
            scorer=scorer,
            warm=bool(self.options.warm_start),
        )
        summary = trainer.summary
        assert summary is not None
        started = time.monotonic()
        with self.plan.phase("test"):
            test = scorer.summary(scorer.collect(model, "test"), "test")
        scored = time.monotonic() - started
        folder = self.run.folder.path
        path = folder / f"{_slug(name)}.{KERNELS}"

        def save() -> dict[str, Any]:
            save_kernels(model, path)
            digest = base_hash(self.base, self.splits.config["model"])
            document = kernel_document(model, config, digest, self.base_folder, folder)
            write_text(path.with_suffix(".json"), json.dumps(document, indent=1))
            files = {file.name: file_digest(file) for file in (path, path.with_suffix(".json"))}
            return {"checkpoint_bytes": path.stat().st_size, "files": files}

        saved = on_main(save)
        on = [int(bank.enabled.sum()) for bank in model.banks]
        note = "; ".join(
            f"kernels on in {count} of {len(domains)} domains ({domains.text})"
            for count, domains in zip(on, model.domains, strict=True)
        )
        banks = list(zip(model.domains, model.banks, summary.best_epoch, strict=True))
        return self._row(
            name,
            {
                **test,
                "valid_metrics": valid,
                "train_seconds": summary.seconds,
                "eval_seconds": scored,
                "trainable_parameters": sum(weight.numel() for weight in model.banks.parameters()),
                "parameters_per_domain": sum(bank.trained_per_domain() for bank in model.banks),
                "converged": summary.converged,
                "epochs": summary.epochs,
                "enabled": {domains.text: bank.enabled.tolist() for domains, bank, _ in banks},
                "best_epoch": {domains.text: epochs.tolist() for domains, _, epochs in banks},
                "batch_sizes": trainer.sampler.sizes[: model.banks[0].num_domains].tolist(),
                "domain_steps": summary.steps.tolist(),
                "kl": _kl_at_end(summary.history),
                "curves": _thinned(summary.history),
                "kernels": path.name,
                **saved,
                "note": note + _limited(summary.converged, summary.epochs),
            },
        )

    def _row(self, name: str, values: dict[str, Any]) -> Row:
        """Return the row of a method, with the table's metric over all rows and weighted over domains."""
        metric = self.run.protocol.valid_metric.lower()
        metrics = dict(values["metrics"])
        if values["weighted"].get(metric) is not None:
            metrics[f"{WEIGHTED}{metric}"] = values["weighted"][metric]
        return Row.from_json({**values, "metrics": metrics, "model": name})

    # Results ---------------------------------------------------------------------------------------------------------

    def details(self) -> dict[str, Any]:
        """Return base, domains, place and the sweep of beta for the report."""
        return {
            "base": self.splits.config["model"],
            "domains": [domains.text for domains in self.model.domains],
            "layer": ", ".join(attachment.place for attachment in self.model.attachments),
            "base_parameters": sum(weight.numel() for weight in self.base.parameters()),
            "chosen": self._selected().model,
            "sweep": self.sweep,
            "selected_by": self.scorer.selected_by,
            "split_seed": self.split_seed,
            "without_domain": self.without_domain,
        }

    def report(self, results: dict[str, Any]) -> str:
        """Return the page with domains, losses and retained information."""
        return render_iak_report(results)

    def discard(self) -> None:
        """Remove base, kernels and checkpoints."""
        folder = self.run.folder.path
        for path in [*folder.glob(f"*.{KERNELS}"), *folder.glob(f"*.{Path(KERNELS).stem}.json"), folder / CHOSEN]:
            path.unlink(missing_ok=True)
        for name in ("base", "trainer_state"):
            shutil.rmtree(folder / name, ignore_errors=True)

    @classmethod
    def load(cls, folder: Path, **options: Any) -> Any:
        """Load a finished run for serving."""
        return load_iak(folder, **options)


def _limited(converged: bool | None, epochs: int) -> str:
    """Return the end of the note of a row of kernels."""
    return "" if converged else f"; {not_converged(epochs)}"


def _kl_at_end(history: list[dict[str, float]]) -> float:
    """Return the mean KL over the last tenth of the steps, in nats."""
    last = history[-max(1, len(history) // 10) :]
    return sum(record["kl"] for record in last) / len(last) if last else 0.0


def _thinned(history: list[dict[str, float]], points: int = 200) -> list[dict[str, float]]:
    """Return at most `points` records, each the mean over its steps."""
    width = -(-len(history) // points) if history else 1
    thinned = []
    for start in range(0, len(history), width):
        part = history[start : start + width]
        means = {key: sum(record[key] for record in part) / len(part) for key in ("matching", "compression", "kl")}
        thinned.append({"step": part[-1]["step"], **means})
    return thinned


def _slug(name: str) -> str:
    """Return the name of a row as part of a file's name."""
    return name.replace(" ", "-")
