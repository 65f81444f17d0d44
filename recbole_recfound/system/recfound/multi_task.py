"""One run of RecFound: train on all tasks together, merge, test; what the table and the report then show."""

import json
import time
from functools import partial
from typing import Any

import torch
from recbole.utils import init_seed
from safetensors.torch import save_file

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.records.files import TaskFiles
from recbole_recfound.data.split.protocol import Splits, held_out
from recbole_recfound.data.task import GENERATIVE, TASKS
from recbole_recfound.errors import ConfigError
from recbole_recfound.evaluation.bert_score import check_bert_score
from recbole_recfound.evaluation.router import router_similarity
from recbole_recfound.evaluation.tasks import run_tests
from recbole_recfound.merge.hook import MergeOutcome, choose, merge_last
from recbole_recfound.model.generation import GenerativeRanking, Generator
from recbole_recfound.model.parts import backbone_of
from recbole_recfound.runtime.budget import Budget
from recbole_recfound.runtime.device import choose_device, choose_precision
from recbole_recfound.runtime.run_folder import RunFolder, write_text
from recbole_recfound.system.recfound.build import Built, build_recfound
from recbole_recfound.trainer.checkpoint import CheckpointStore, load_trained, trained_tensors
from recbole_recfound.trainer.optimizer import trained_parameters
from recbole_recfound.trainer.recfound import RecFoundTrainer

TEST_SECONDS, TEST_SHARE = 0.7, 0.3
"""Kept from the time budget for each test example of the tasks, and at most this part of it for all."""
WRITE_SECONDS = 10.0
"""No further task is tested when no more than this is left: results and report must be written."""

Tests = dict[str, dict[str, Any]]
"""What `run_tests` found, by task."""


def check_tasks(config: Config) -> TaskFiles:
    """Check everything that tasks need besides the atomic files, before anything expensive starts.

    Raises:
        ConfigError, DataError: naming the key, or file:line and key.
    """
    check_bert_score(config["bert_score_model"])
    counts = config["task_test_examples"]
    if isinstance(counts, dict) and (unknown := [name for name in counts if name not in TASKS]):
        raise ConfigError(f"task_test_examples: unknown task '{unknown[0]}', known are {', '.join(TASKS)}")
    files = TaskFiles.open(config["task_files"], config["skip_bad_rows"])
    for note in files.notes():
        print(note, flush=True)
    return files


class MultiTaskRun:
    """RecFound with its data and trainer. Everything that does not fit together is refused when it is made.

    Args:
        config: the run's settings.
        splits: the data set; None: tasks come from files alone.
        files: JSON-lines files of further tasks.
        folder: of the run.
        budget: the run's clock.

    Raises:
        ConfigError, DataError, BackboneError: settings, data and backbone do not fit together.
    """

    def __init__(
        self, config: Config, splits: Splits | None, files: TaskFiles, folder: RunFolder, budget: Budget
    ) -> None:
        self.config, self.files, self.folder, self.budget = config, files, folder, budget
        self.device = choose_device(config)
        self.precision = choose_precision(config["precision"], self.device)
        self.backbone = backbone_of(config)
        init_seed(config["seed"], config["reproducibility"])
        self.built = build_recfound(config, splits, self.backbone, files)
        if config["baselines"] and not self.built.ranks:
            raise ConfigError("baselines: nothing is ranked without U2I, so there is nothing to compare them by")
        self.splits = splits if self.built.ranks else None
        tests = [test for name, test in self.built.tests.items() if TASKS[name].kind == GENERATIVE]
        budget.reserved = min(
            TEST_SECONDS * sum(len(test.examples) + len(test.valid) for test in tests), TEST_SHARE * budget.seconds
        )
        self.store = CheckpointStore(folder.trainer_state, config["merge_last"])
        self.trainer = RecFoundTrainer(config, self.built.model, store=self.store, budget=budget)

    def results(self, saved: bool) -> dict[str, Any]:
        """Train, merge and test.

        Args:
            saved: keep weights and checkpoints.

        Returns:
            Its rows of the table and what the report shows.
        """
        config, trainer, built = self.config, self.trainer, self.built
        # Baselines have drawn in between.
        init_seed(config["seed"], config["reproducibility"])
        print(_tasks_line(built), flush=True)
        trainer.fit(
            built.loader, self.splits and self.splits.valid_data, saved=True, show_progress=config["show_progress"]
        )
        started = time.monotonic()
        outcome = self._merge_by_ranking() if self.splits else self._merge_by_probes()
        scored = time.monotonic() - started
        trainer.wandblogger.log_eval_metrics(outcome.test[outcome.kept])
        share = trainer.probe_share  # before the last probe of all tasks, which is no part of a step
        final = trainer.probes.measure(built.model, list(built.tasks))
        if saved:
            self._save()
        write_text(self.folder.trainer_state / "history.json", json.dumps(trainer.history))
        tested, of_best = self._test_tasks(outcome)
        row = {
            **self._row(outcome, scored),
            "task_metrics": _metrics_of(tested),
            "task_metrics_of_best": _metrics_of(of_best),
        }
        if not saved:
            self.store.clear()
        return {
            "rows": [*self._by_titles(row), row],
            "tasks": self._task_rows(final, tested),
            "left_out": built.left_out,
            "task_files": self.files.notes(),
            "merge": vars(outcome),
            "router": self._router(),
            "examples": recommend_examples(self.splits, built) if self.splits else [],
            "run": {
                "steps": trainer.step,
                "best_step": trainer.best_step,
                "train_seconds": trainer.trained_seconds,
                "probe_share_of_step_time": share,
                "precision": self.precision,
                "device": str(self.device),
                "history_mode": built.model.history.name,
                "backbone": config["backbone"],
                "backbone_fingerprint": self.backbone.fingerprint,
            },
        }

    # Merging ---------------------------------------------------------------------------------------------------------

    def _merge_by_ranking(self) -> MergeOutcome:
        """Best single checkpoint, last one and merged one, each with item texts encoded by its own weights."""
        trainer, splits = self.trainer, self.splits
        merged, outcome = self._merged()
        candidates = {"best": self.store.load(trainer.best_step, self.device).trained}
        # The same object twice is scored once.
        alike = trainer.best_step == trainer.step
        candidates["last"] = candidates["best"] if alike else self.store.load(trainer.step, self.device).trained
        if merged is not None:
            candidates["merged"] = merged

        def score(data: Any) -> dict[str, float]:
            with trainer.accelerator.autocast():
                return {name: float(value) for name, value in trainer.evaluate(data, load_best_model=False).items()}

        return choose(
            candidates,
            outcome,
            self._load,
            lambda: score(splits.valid_data),
            lambda: score(splits.test_data),
            self.config["valid_metric"].lower(),
            trainer.valid_metric_bigger,
        )

    def _merge_by_probes(self) -> MergeOutcome:
        """Last checkpoint or merged one, without a ranking: by the tasks' mean probe loss over the untrained one."""
        trainer = self.trainer
        merged, outcome = self._merged()
        candidates = {"last": self.store.load(trainer.step, self.device).trained}
        if merged is not None:
            candidates["merged"] = merged

        def probe() -> dict[str, float]:
            found = trainer.probes.measure(trainer.model, list(trainer.untrained))
            return {
                "probe_loss": sum(loss / max(trainer.untrained[name], 1e-8) for name, loss in found.items())
                / len(found)
            }

        load = partial(load_trained, trained_parameters(trainer.model))
        return choose(candidates, outcome, load, probe, dict, "probe_loss", bigger=False)

    def _merged(self) -> tuple[dict[str, torch.Tensor] | None, MergeOutcome]:
        config = self.config
        return merge_last(
            self.store,
            config["merge_last"],
            config["merge_method"],
            config["merge_density"],
            self.device,
            config["merge_sparsify"],
        )

    def _load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Put trained tensors into the model, and encode item texts with them."""
        load_trained(trained_parameters(self.built.model), tensors)
        self.trainer.refresh_items()

    # Testing ---------------------------------------------------------------------------------------------------------

    def _test_tasks(self, outcome: MergeOutcome) -> tuple[Tests, Tests]:
        """Tests of the kept candidate's tasks, and of the best single checkpoint's if they are asked for (else the same again)."""
        built, config = self.built, self.config
        generator = Generator(built.model.backbone, self.backbone.tokenizer, self.device, config["answer_beams"])

        def test() -> Tests:
            with self.trainer.accelerator.autocast():
                return run_tests(
                    built.model,
                    built.collator,
                    generator,
                    built.tests,
                    config,
                    lambda: self.budget.remaining() - WRITE_SECONDS,
                )

        tested = test()
        if not config["test_best"] or outcome.kept == "best":
            return tested, tested
        kept = trained_tensors(trained_parameters(built.model))
        self._load(self.store.load(self.trainer.best_step, self.device).trained)
        of_best = test()
        self._load(kept)
        return tested, of_best

    def _row(self, outcome: MergeOutcome, scored: float) -> dict[str, Any]:
        """The row of the table, without the tasks' own metrics.

        Args:
            outcome: of merging.
            scored: seconds that scoring all candidates took.
        """
        trainer = self.trainer
        scorings = 2 * (len(outcome.test) - bool(self.splits and trainer.best_step == trainer.step))
        return {
            "model": self.config["model"],
            "metrics": outcome.test[outcome.kept],
            "valid_metrics": outcome.valid[outcome.kept],
            "train_seconds": trainer.trained_seconds,
            "eval_seconds": scored / scorings,
            "trainable_parameters": sum(weight.numel() for weight in trained_parameters(self.built.model).values()),
            "converged": trainer.stale > trainer.stopping_step,
            "note": f"{outcome.kept} of best, last, merged"
            if len(outcome.test) > 2
            else "untrained" * (not trainer.step),
        }

    def _by_titles(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """The same model with its best items ranked by how likely it writes their titles, as a row of its own."""
        count, trainer, started = self.config["generative_candidates"], self.trainer, time.monotonic()
        if self.splits is None or not count:
            return []
        model = trainer.model
        model.rerank = GenerativeRanking(model, self.built.collator, count)
        try:
            with trainer.accelerator.autocast():
                metrics = trainer.evaluate(
                    self.splits.test_data, load_best_model=False, show_progress=self.config["show_progress"]
                )
        finally:
            model.rerank = None
        return [
            {
                **row,
                "model": f"{row['model']}, titles ranked",
                "metrics": {name: float(value) for name, value in metrics.items()},
                "task_metrics": {},
                "eval_seconds": time.monotonic() - started,
                "note": f"the {min(count, model.n_items - 1)} best items of the row below, by likelihood of their titles",
            }
        ]

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
        """Adapter in PEFT's format, every other trained tensor, and the item vectors."""
        model, path = self.built.model, self.folder.path
        model.backbone.save_pretrained(str(path / "adapter"), save_embedding_layers=False)
        head = {name: weight for name, weight in trained_parameters(model).items() if not name.startswith("backbone.")}
        save_file({name: weight.detach().contiguous() for name, weight in head.items()}, path / "head.safetensors")
        if self.built.ranks:
            save_file(
                {"item_embeddings": model.eval().item_vectors().float().contiguous()},
                path / "item_embeddings.safetensors",
            )


def _metrics_of(tested: Tests) -> dict[str, dict[str, float]]:
    return {name: test["metrics"] for name, test in tested.items() if "metrics" in test}


def _tasks_line(built: Built) -> str:
    told = ", ".join(f"{name} ({len(task)})" for name, task in built.tasks.items())
    left = "".join(f"\n  left out: {name}: {why}" for name, why in built.left_out.items())
    return f"tasks (training examples): {told}{left}"


@torch.no_grad()
def recommend_examples(splits: Splits, built: Built, count: int = 10, shown: int = 5) -> list[dict[str, Any]]:
    """Recommendations for a few test users, as titles; what they had before is masked."""
    pairs = held_out(splits.test_set)
    chosen = pairs[:: max(1, len(pairs) // count)][:count]
    model, catalogue = built.model.eval(), built.catalogue
    index_of_id = built.data.item_ids.index_of_id
    items, lengths = splits.known_at_test.padded(chosen[:, 0], splits.config["MAX_ITEM_LIST_LENGTH"])
    users = model.user_vectors(torch.from_numpy(items).to(model.device), torch.from_numpy(lengths).to(model.device))
    scores = users @ model.item_vectors().T
    scores[:, 0] = float("-inf")
    examples = []
    for (user, target), score in zip(chosen, scores, strict=True):
        known = splits.known_at_test.of(user)
        score[torch.from_numpy(known[known != target]).to(model.device)] = float("-inf")
        titles = [catalogue.title_of(index_of_id[iid]) for iid in score.topk(shown).indices.tolist()]
        examples.append(
            {
                "user": str(splits.train_set.id2token(splits.train_set.uid_field, user)),
                "history": [catalogue.title_of(index_of_id[iid]) for iid in known[-shown:]],
                "recommended": titles,
                "held_out": catalogue.title_of(index_of_id[target]),
            }
        )
    return examples
