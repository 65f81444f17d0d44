"""RecFound as a system: one LLM trained on embedding and generative tasks, merged and tested."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from recbole.utils import init_seed

from recbole_recfound.atomic.find import NO_DATASET
from recbole_recfound.backbone.licence import licence_of
from recbole_recfound.backbone.quantized import check_training
from recbole_recfound.baseline.blend import Scorer
from recbole_recfound.config.configurator import Config
from recbole_recfound.config.options import MergeOptions
from recbole_recfound.data.batches import BatchOptions
from recbole_recfound.data.records.files import TaskFiles
from recbole_recfound.data.split.digest import data_digest
from recbole_recfound.data.split.protocol import Splits, with_side_files
from recbole_recfound.data.task import EMBEDDING, GENERATIVE, TASKS
from recbole_recfound.data.task_tests import TaskTest, TestOptions
from recbole_recfound.data.text.options import ItemOptions
from recbole_recfound.errors import ConfigError
from recbole_recfound.evaluation.bert_score import check_bert_score
from recbole_recfound.evaluation.drawn_ties import further_rankings
from recbole_recfound.evaluation.report.page import render_report
from recbole_recfound.evaluation.report.table import PROBE_LOSS, task_lines
from recbole_recfound.evaluation.results import Row, not_converged
from recbole_recfound.evaluation.router import router_similarity
from recbole_recfound.evaluation.task_time import shortened
from recbole_recfound.evaluation.tasks import run_tests
from recbole_recfound.merge.hook import MergeOutcome
from recbole_recfound.model.generation import GenerativeRanking, Generator
from recbole_recfound.model.history import HISTORIES, history_of
from recbole_recfound.model.parts import RECORDS_MODE, backbone_of, settings_problems
from recbole_recfound.model.saved import write_model
from recbole_recfound.model.trained import trained_parameters, trained_tensors
from recbole_recfound.runtime.device import choose_device, choose_precision
from recbole_recfound.runtime.exchange import broadcast, on_main
from recbole_recfound.runtime.ranks import is_main, shards
from recbole_recfound.runtime.run_folder import write_text
from recbole_recfound.serving.histories import UserHistories
from recbole_recfound.serving.recfound import load_ranking
from recbole_recfound.system.base import System
from recbole_recfound.system.blending import blended, check_blend
from recbole_recfound.system.recfound.build import Built, build_recfound
from recbole_recfound.system.recfound.candidates import Candidates
from recbole_recfound.system.recfound.examples import recommend_examples
from recbole_recfound.system.recfound.variants import row_name, variants
from recbole_recfound.system.registry import register_system
from recbole_recfound.system.run import Job, Run
from recbole_recfound.trainer.checkpoint import CheckpointStore
from recbole_recfound.trainer.recfound import RecFoundTrainer

REPORT_SECONDS, REPORT_SHARE = 20.0, 1 / 15
"""Kept from the time budget for results and report, and at most this part of it."""
TEST_SECONDS, TEST_SHARE = {GENERATIVE: 0.7, EMBEDDING: 0.05}, 0.3
"""Kept from the time budget for each test example of the tasks, and at most this part of it for all."""
WRITE_SECONDS = 10.0
"""No further task is tested when no more than this is left: results and report must be written."""

Tests = dict[str, dict[str, Any]]
"""What `run_tests` found, by task."""


def open_task_files(config: Config) -> TaskFiles:
    """Read and check the JSON-lines files of a run, and print notes about them.

    Raises:
        ConfigError, DataError: with the key, or file:line and key.
    """
    files = TaskFiles.open(config["task_files"], config["skip_bad_rows"])
    for note in files.notes():
        print(note, flush=True)
    return files


@register_system("RecFound")
class RecFoundSystem(System):
    """RecFound's run: train on all tasks together, merge, test.

    Raises:
        ConfigError, DataError, BackboneError: settings, data and backbone do not fit together.
    """

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        config = self.config = run.config
        self.plan = run.plan
        self.testing = TestOptions.of(config["test_args"], "test_args")
        self.files = open_task_files(config)
        self.device = choose_device(config["use_gpu"], config["gpu_id"])
        self.precision = choose_precision(config["precision"], self.device)
        self.backbone = backbone_of(config)
        init_seed(config["seed"], config["reproducibility"])
        self.built = build_recfound(config, run.splits, self.backbone, self.files)
        for note in self.files.excluded_notes():
            print(note, flush=True)
        if config["baselines"] and not self.built.ranks:
            raise ConfigError("baselines: nothing is ranked without U2I, so there is nothing to compare them by")
        self.splits = run.splits if self.built.ranks else None
        counted = [(TASKS[name].kind, test.asked(self.testing)) for name, test in self.built.tests.items()]
        planned = sum(TEST_SECONDS[kind] * count for kind, count in counted) * (1 + self.testing.best_checkpoint)
        self.plan.reserved |= {
            "tests of the tasks": min(planned, TEST_SHARE * self.plan.seconds),
            "report": min(REPORT_SECONDS, REPORT_SHARE * self.plan.seconds),
        }
        self.plan.elastic.add("tests of the tasks")
        ranking = [name for name in self.built.tasks if TASKS[name].kind == EMBEDDING]
        share = BatchOptions.of(config["batch_args"], "batch_args").embedding_share
        if share and 0 < len(ranking) < len(self.built.tasks):
            self.plan.within = f"at least {share:.0%} of it for {', '.join(ranking)}"
        # The folder prints the plan.
        self.store = CheckpointStore(run.folder.trainer_state, MergeOptions.read(config)[0].last)
        self.trainer = RecFoundTrainer(config, self.built.model, store=self.store, plan=self.plan)
        self.trainer.scorings += len(config["blend"])
        self.candidates = Candidates(config, self.trainer, self.splits)
        if self.splits is not None:  # metrics such as coverage and popularity count training rows
            self.trainer.eval_collector.data_collect(self.splits.train_data)

    @classmethod
    def variants(cls, config: Config) -> dict[str, dict[str, Any]]:
        """Return ablations and controls for the long table."""
        return variants(config)

    @classmethod
    def row_name(cls, config: Config) -> str:
        """Return the name of the row; see `variants.row_name`."""
        return row_name(config)

    @classmethod
    def validated_by(cls, config: Config) -> str:
        """Return the metric that chooses checkpoints: without a ranking the loss of the probes."""
        metric: str = PROBE_LOSS if config["dataset"] == NO_DATASET else config["valid_metric"]
        return metric

    @classmethod
    def check(cls, config: Config) -> None:
        """Refuse settings that make no model together, and a test that needs a package or model that is not there."""
        has_data = config["dataset"] != NO_DATASET
        trained = [name for name in config["tasks"] if not config["only_tasks"] or name in config["only_tasks"]]
        mode = history_of(config) if has_data else HISTORIES[RECORDS_MODE]
        if problems := settings_problems(config, mode, has_data and "U2I" in trained):
            raise ConfigError(problems)
        check_blend(config)
        check_training(config["backbone_bits"], config["device"])
        check_bert_score(TestOptions.of(config["test_args"], "test_args").bert_score_model)

    @classmethod
    def with_side_files(cls, splits: Splits) -> Splits:
        """Refuse an .item file whose texts belong to no item; see `System.with_side_files`."""
        options = ItemOptions.of(splits.config["item_args"], "item_args")
        path = Path(splits.config["data_path"]) / f"{splits.config['dataset']}.item"
        if options.read_file and path.is_file():
            return with_side_files(splits, options.id_field, strict=True)
        why = f"there is no {path.name}" if options.read_file else "item_args: {read_file: False}"
        return replace(splits, files=(f"no item has text ({why}): the LLM reads ids alone",))

    def rows(self) -> Iterator[Job]:
        """Yield the ranking by titles, if requested, and the row of the model itself."""
        if self.splits is not None and self.testing.rank_titles:
            yield Job(f"{self.row_name(self.config)}, titles ranked", self._titles_row, resumable=False)
        for name in self.config["blend"]:
            yield from blended(self.run, self._row, self._scorer(), name)
        yield Job(self.row_name(self.config), lambda: self._row, resumable=False)

    @cached_property
    def _row(self) -> Row:
        """Train, merge and test."""
        config, trainer, built = self.config, self.trainer, self.built
        # Baselines have drawn in between.
        init_seed(config["seed"], config["reproducibility"])
        print(_tasks_line(built), flush=True)
        trainer.fit(
            built.loader,
            self.splits and self.splits.valid_data,
            saved=True,
            show_progress=config["show_progress"],
            callback_fn=self.run.watch,
        )
        self.probe_share = trainer.probe_share  # before the probes of all tasks, which are no part of a step
        started, probed = time.monotonic(), trainer.probes.seconds
        with self.plan.phase("merging and scoring"):
            outcome = self.outcome = self.candidates.choose()
        scored = time.monotonic() - started - (trainer.probes.seconds - probed)
        trainer.wandblogger.log_eval_metrics(outcome.test[outcome.kept])
        self.final_losses = broadcast(trainer.probes.measure(built.model, list(built.tasks)))
        if self.run.saved:
            with self.plan.phase("report"):
                self._save()
        write_text(self.run.folder.trainer_state / "history.json", json.dumps(trainer.history))
        with self.plan.phase("tests of the tasks"):
            self.tested, of_best = self._test_tasks(outcome)
        details = {"task_metrics": _metrics_of(self.tested), "task_metrics_of_best": _metrics_of(of_best)}
        return self._scored_row(outcome, scored, details)

    def details(self) -> dict[str, Any]:
        """Return tasks, merging, routers, examples and facts for the report."""
        trainer, built = self.trainer, self.built
        return {
            "tasks": self._task_rows(self.final_losses, self.tested),
            "left_out": built.left_out,
            "task_files": self.files.notes(),
            "merge": self.outcome.to_json(),
            "router": self._router(),
            "examples": recommend_examples(self.splits, built) if self.splits else [],
            "run": {
                "steps": trainer.step,
                "best_step": trainer.best_step,
                "train_seconds": trainer.text_seconds + trainer.trained_seconds,
                "probe_share_of_step_time": self.probe_share,
                "precision": self.precision,
                "device": str(self.device),
                "history_mode": built.model.history.name,
                "backbone": self.config["backbone"],
                "backbone_fingerprint": self.backbone.fingerprint,
                "backbone_licence": licence_of(self.config["backbone"]),
            },
        }

    def lines(self, results: dict[str, Any]) -> Iterable[str]:
        """Return one line for each tested task and the share of the probes."""
        share = results["run"]["probe_share_of_step_time"]
        return [*task_lines(results["tasks"]), f"probes took {100 * share:.1f}% of the training time"]

    def report(self, results: dict[str, Any]) -> str:
        """Return the page with loss curves and sampling ratios."""
        return render_report(results, self.trainer.history)

    @classmethod
    def load(cls, folder: Path, **options: Any) -> Any:
        """Load a finished run for serving."""
        return load_ranking(folder, **options)

    def discard(self) -> None:
        """Remove the checkpoints; weights have not been written."""
        self.store.clear()

    # Testing ---------------------------------------------------------------------------------------------------------

    def _test_tasks(self, outcome: MergeOutcome) -> tuple[Tests, Tests]:
        """Test the tasks of the chosen candidate and, if requested, of the best single checkpoint."""
        built, config = self.built, self.config
        generator = Generator(built.model.backbone, self.backbone.tokenizer, self.device, self.testing.beams)
        twice = self.testing.best_checkpoint and outcome.kept != "best"

        def test(tests: Mapping[str, TaskTest], later: float = 0.0) -> Tests:
            with self.trainer.accelerator.autocast():
                return run_tests(
                    built.model,
                    built.collator,
                    generator,
                    tests,
                    config,
                    lambda: self.plan.remaining() - WRITE_SECONDS - later,
                )

        left = max(0.0, self.plan.remaining() - WRITE_SECONDS) if self.plan.limited else 0.0
        tested = broadcast(test(built.tests, later=left / 2 if twice else 0.0))
        if not twice:
            return tested, tested
        kept = trained_tensors(trained_parameters(built.model))
        self.candidates.load(self.store.load(self.trainer.best_step, self.device).trained)
        # Both are compared: on the same examples.
        same = {
            name: shortened(each, tested[name]["examples"]) if each.examples else each
            for name, each in built.tests.items()
        }
        of_best = broadcast(test(same))
        self.candidates.load(kept)
        return tested, of_best

    def _scored_row(self, outcome: MergeOutcome, scored: float, details: Mapping[str, Any]) -> Row:
        """Return the row of the table.

        Args:
            outcome: of merging.
            scored: seconds that scoring all candidates took.
            details: metrics of the tasks.
        """
        trainer = self.trainer
        if self.splits is not None:
            details = {**details, **further_rankings(trainer, self.splits, self.candidates.score)}
        scorings = 2 * (len(outcome.test) - bool(self.splits and trainer.best_step == trainer.step))
        converged = trainer.stale > trainer.stopping_step
        note = f"{outcome.kept} of best, last, merged" if len(outcome.test) > 2 else "untrained" * (not trainer.step)
        if trainer.step and not converged:
            note = "; ".join(filter(None, (note, not_converged(trainer.step, "steps"))))
        return Row(
            model=self.row_name(self.config),
            metrics=outcome.test[outcome.kept],
            valid_metrics=outcome.valid[outcome.kept],
            train_seconds=trainer.text_seconds + trainer.trained_seconds,
            eval_seconds=scored / scorings,
            trainable_parameters=sum(weight.numel() for weight in trained_parameters(self.built.model).values()),
            converged=converged,
            by_user=outcome.by_user[outcome.kept],
            note=note,
            details=details,
        )

    def _titles_row(self) -> Row:
        """Rank the best items of the same model by the likelihood of their titles."""
        row = self._row
        assert self.splits is not None
        count, trainer, started = self.testing.rank_titles, self.trainer, time.monotonic()
        model = trainer.model
        model.rerank = GenerativeRanking(model, self.built.collator, count)
        try:
            with trainer.accelerator.autocast():
                metrics = trainer.evaluate(
                    self.splits.test_data, load_best_model=False, show_progress=self.config["show_progress"]
                )
        finally:
            model.rerank = None
        best = min(count, model.n_items - 1)
        return replace(
            row,
            model=f"{row.model}, titles ranked",
            metrics={name: float(value) for name, value in metrics.items()},
            eval_seconds=time.monotonic() - started,
            note=f"the {best} best items of the row below, by likelihood of their titles",
            details={**row.details, "task_metrics": {}},
        )

    def _scorer(self) -> Scorer:
        """Return this model as a blend reads it."""
        model, accelerator = self.built.model.eval(), self.trainer.accelerator

        def scores(interaction: Any) -> torch.Tensor:
            with accelerator.autocast():
                found = model.full_sort_predict(interaction.to(self.device))
            return found.view(len(interaction), -1).float().cpu()

        assert self.splits is not None
        return Scorer(self.splits, scores)

    # Report ----------------------------------------------------------------------------------------------------------

    def _task_rows(self, final: dict[str, float], tested: Tests) -> list[dict[str, Any]]:
        loader = self.built.loader
        return [
            {
                "name": name,
                "title": task.spec.title,
                "kind": task.spec.kind,
                "note": task.note,
                "size": round(len(task) * task.targets_per_example),
                "seen": loader.trained(name),
                "distinct": loader.distinct(name),
                "step_alone": loader.step_alone(name) * self.trainer.accelerator.gradient_accumulation_steps,
                "untrained_loss": self.trainer.untrained[name],
                "final_loss": final[name],
                "test": tested.get(name),
            }
            for name, task in self.built.tasks.items()
        ]

    def _router(self) -> dict[str, Any] | None:
        names = list(self.built.tasks)
        similarity = router_similarity(self.built.model.backbone, names)
        return {"tasks": names, "similarity": similarity} if similarity else None

    def _save(self) -> None:
        """Write everything that serving needs; where frozen weights are divided, others take part and write nothing."""
        if not shards():
            on_main(lambda: self._write(self.run.folder.path))
            return
        with TemporaryDirectory() as elsewhere:
            self._write(self.run.folder.path if is_main() else Path(elsewhere))

    def _write(self, path: Path) -> None:
        model = self.built.model.eval()
        with self.trainer.accelerator.autocast():
            digest = data_digest(self.splits) if self.splits else None
            write_model(path, model, self.built.data, trained_parameters(model), digest)
        if self.config["save_histories"] and self.splits:
            UserHistories.of(self.splits).save(path)


def _metrics_of(tested: Tests) -> dict[str, dict[str, float]]:
    return {name: test["metrics"] for name, test in tested.items() if "metrics" in test}


def _tasks_line(built: Built) -> str:
    tasks = ", ".join(f"{name} ({len(task)})" for name, task in built.tasks.items())
    left = "".join(f"\n  left out: {name}: {why}" for name, why in built.left_out.items())
    return f"tasks (training examples): {tasks}{left}"
