"""One call from a config to a table: baselines, training, merging, evaluation, report."""

import json
import resource
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from recbole.utils import init_seed
from safetensors.torch import save_file

from recbole_recfound.backbone import load_backbone
from recbole_recfound.config import Config
from recbole_recfound.data.protocol import Splits, build_splits, check_topk, held_out, protocol_of
from recbole_recfound.dataset_folder import NO_DATASET
from recbole_recfound.device import choose_device, choose_precision, is_gpu
from recbole_recfound.errors import ConfigError
from recbole_recfound.evaluation.baseline import check_baselines, fit_and_score, run_baseline
from recbole_recfound.evaluation.bert_score import check_bert_score
from recbole_recfound.evaluation.report import render_report
from recbole_recfound.evaluation.router import router_similarity
from recbole_recfound.evaluation.table import format_table, protocol_line, task_lines
from recbole_recfound.evaluation.tasks import run_tests
from recbole_recfound.finetune import run_iak
from recbole_recfound.generation import GenerativeRanking, Generator
from recbole_recfound.merge.hook import MergeOutcome, choose, merge_last
from recbole_recfound.model.build import Built, build_recfound
from recbole_recfound.model.build_on_files import build_on_files
from recbole_recfound.registry import OUR_MODELS
from recbole_recfound.run_folder import RESULTS, RunFolder, resolved_settings, write_text
from recbole_recfound.task import GENERATIVE, TASKS
from recbole_recfound.task.files import TaskFiles
from recbole_recfound.trainer.budget import Budget
from recbole_recfound.trainer.checkpoint import CheckpointStore, load_trained, trained_tensors
from recbole_recfound.trainer.optimizer import trained_parameters
from recbole_recfound.trainer.recfound import RecFoundTrainer
from recbole_recfound.versions import versions

TEST_SECONDS, TEST_SHARE = 0.7, 0.3
"""Kept from the time budget for each test example of the tasks, and at most this part of it for all."""
WRITE_SECONDS = 10.0
"""No further task is tested when no more than this is left: results and report must be written."""
BASELINE_SHARE = 0.4
"""Part of the time budget that the baselines may take together."""


def run_recfound(
    model: str = "RecFound",
    dataset: str = "ml-100k",
    config_file_list: Sequence[str] | None = None,
    config_dict: dict[str, Any] | None = None,
    saved: bool = True,
    baselines: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Train a model, compare it with RecBole's baselines under one protocol, write the run's folder.

    Args:
        model: one of ours, or any RecBole model.
        dataset: RecBole data set name; `data_path` in the config says where it is.
        config_file_list: YAML files.
        config_dict: settings by key; they win.
        saved: keep weights and checkpoints in the run's folder (the table and the report are always written).
        baselines: RecBole models for the table; None takes the config's.

    Returns:
        RecBole's four (`best_valid_score`, `valid_score_bigger`, `best_valid_result`, `test_result`), `comparison` (rows
        of the table) and `run_dir`.

    Raises:
        ConfigError, DataError, BackboneError: found before anything expensive starts.
        TrainingError: training cannot go on; the last good checkpoint is kept.
    """
    if model == "IAK":
        return run_iak(dataset, config_file_list, config_dict, baselines)
    settings = dict(config_dict or {})
    if baselines is not None:
        settings["baselines"] = list(baselines)
    config = Config(model, dataset, config_file_list, settings)
    budget = Budget(config["time_budget"])
    device = choose_device(config)
    init_seed(config["seed"], config["reproducibility"])
    ours = config["model"] in OUR_MODELS
    splits = build_splits(config) if config["dataset"] != NO_DATASET else None
    if splits:
        check_topk(splits)
        check_baselines(config["baselines"], config, splits)
    elif config["baselines"] or not ours:
        raise ConfigError("dataset: none has no interactions, which RecBole's models need")
    files = check_tasks(config) if ours else TaskFiles()
    folder = RunFolder.open(config["model"], config["dataset"], resolved_settings(config), config["output_dir"], config["resume"])
    folder.log_to(verbose=config["show_progress"])
    protocol = protocol_of(config, splits)
    print(f"{protocol_line(protocol)}\nrun folder: {folder.path}\n{_plan(config)}", flush=True)

    # A missing backbone must be found before the baselines have cost minutes.
    precision = choose_precision(config["precision"], device)
    backbone = load_backbone(config["backbone"], device, torch.bfloat16 if precision == "bf16" else torch.float32) if ours else None
    # So must whatever does not fit data, backbone or tasks.
    prepared = _prepare(config, splits, files, folder, budget, backbone, device, precision) if ours else None
    if prepared and not prepared[0].ranks and config["baselines"]:
        raise ConfigError("baselines: nothing is ranked without U2I, so there is nothing to compare them by")
    rows = _baseline_rows(config, splits, folder, budget)
    if ours:
        results = _run_ours(config, splits, files, folder, backbone, *prepared, precision, saved)
    else:
        results = {"rows": [fit_and_score(config, splits, _deadline(budget, 1.0))]}
    results = {
        "model": config["model"],
        "dataset": config["dataset"],
        "protocol": protocol,
        **results,
        "rows": rows + results["rows"],
        "versions": versions(),
        "seed": config["seed"],
    }
    return _finish(config, folder, results, budget)


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


def _plan(config: Config) -> str:
    seconds = config["time_budget"]
    if not seconds:
        steps = "any number of" if config["max_steps"] is None else config["max_steps"]
        return f"time budget: none (time_budget: 0); at most {steps} steps"
    return (
        f"time budget: {seconds} s for the whole run; baselines may take {BASELINE_SHARE * seconds:.0f} s, "
        f"the rest is training, merging and testing"
    )


def _deadline(budget: Budget, share: float) -> float | None:
    """Moment on `time.monotonic()` at which `share` of the budget is spent."""
    return budget.start + share * budget.seconds if budget.limited else None


def _baseline_rows(config: Config, splits: Splits, folder: RunFolder, budget: Budget) -> list[dict[str, Any]]:
    def compute(name: str) -> dict[str, Any]:
        print(f"baseline {name} ...", flush=True)
        return run_baseline(name, config, splits, folder.path / "baselines", _deadline(budget, BASELINE_SHARE))

    return [folder.row(name, partial(compute, name)) for name in config["baselines"]]


# Our models ----------------------------------------------------------------------------------------------------------


def _prepare(
    config: Config,
    splits: Splits | None,
    files: TaskFiles,
    folder: RunFolder,
    budget: Budget,
    backbone,
    device,
    precision: str,
) -> tuple[Built, RecFoundTrainer]:
    """Build RecFound and its trainer.

    Raises:
        ConfigError, DataError: settings, data and backbone do not fit together.
    """
    init_seed(config["seed"], config["reproducibility"])
    if AcceleratorState._shared_state:
        # accelerate keeps the precision and the device of a process's first run for all that follow.
        AcceleratorState._reset_state(reset_partial_state=True)
    if is_gpu(device):
        # accelerate's device is the current one, whatever its number.
        torch.accelerator.set_device_index(device.index)
    accelerator = Accelerator(
        mixed_precision=precision,
        cpu=not is_gpu(device),
        gradient_accumulation_steps=config["gradient_accumulation"],
    )
    if splits:
        built = build_recfound(config, splits, backbone, device, files)
    else:
        built = build_on_files(config, files, backbone, device)
    asked = sum(len(test.examples) + len(test.valid) for name, test in built.tests.items() if TASKS[name].kind == GENERATIVE)
    budget.reserved = min(TEST_SECONDS * asked, TEST_SHARE * budget.seconds)
    store = CheckpointStore(folder.trainer_state, config["merge_last"])
    return built, RecFoundTrainer(config, built.model, accelerator, store, budget)


def _run_ours(
    config: Config,
    splits: Splits | None,
    files: TaskFiles,
    folder: RunFolder,
    backbone,
    built: Built,
    trainer: RecFoundTrainer,
    precision: str,
    saved: bool,
) -> dict[str, Any]:
    """Train, merge and test RecFound; returns its rows and what the report shows."""
    store, accelerator, budget, device = trainer.store, trainer.accelerator, trainer.budget, trainer.device
    splits = splits if built.ranks else None
    # Baselines have drawn in between.
    init_seed(config["seed"], config["reproducibility"])
    print(_tasks_line(built), flush=True)
    trainer.fit(built.loader, splits and splits.valid_data, saved=True, show_progress=config["show_progress"])
    started = time.monotonic()
    outcome = _merge(config, splits, trainer, store) if splits else _merge_by_probes(config, trainer, store)
    scored = time.monotonic() - started
    trainer.wandblogger.log_eval_metrics(outcome.test[outcome.kept])
    scorings = 2 * (len(outcome.test) - bool(splits and trainer.best_step == trainer.step))
    share = trainer.probe_share  # before the last probe of all tasks, which is no part of a step
    final = trainer.probes.measure(built.model, list(built.tasks))
    if saved:
        _save(built, folder)
    else:
        store.clear()
    write_text(folder.trainer_state / "history.json", json.dumps(trainer.history))
    generator = Generator(built.model.backbone, backbone.tokenizer, device, config["answer_beams"])

    def test_tasks() -> dict[str, dict[str, Any]]:
        with accelerator.autocast():
            return run_tests(built.model, generator, built.tests, config, lambda: budget.remaining() - WRITE_SECONDS)

    tested, of_best = test_tasks(), {}
    if config["test_best"] and outcome.kept != "best":
        trained = trained_parameters(built.model)
        kept = trained_tensors(trained)
        load_trained(trained, store.load(trainer.best_step, device).trained)
        trainer.refresh_items()
        of_best = test_tasks()
        load_trained(trained, kept)
        trainer.refresh_items()
    parameters = sum(weight.numel() for weight in trained_parameters(built.model).values())
    row = {
        "model": config["model"],
        "metrics": outcome.test[outcome.kept],
        "valid_metrics": outcome.valid[outcome.kept],
        "task_metrics": _metrics_of(tested),
        "task_metrics_of_best": _metrics_of(of_best or tested),
        "train_seconds": trainer.trained_seconds,
        "eval_seconds": scored / scorings,
        "trainable_parameters": parameters,
        "converged": trainer.stale > trainer.stopping_step,
        "note": f"{outcome.kept} of best, last, merged" if len(outcome.test) > 2 else "",
    }
    return {
        "rows": [*_by_titles(config, splits, trainer, row), row],
        "tasks": _task_rows(built, trainer, final, tested),
        "left_out": built.left_out,
        "task_files": files.notes(),
        "merge": vars(outcome),
        "router": _router(built),
        "examples": _examples(splits, built) if splits else [],
        "run": {
            "steps": trainer.step,
            "best_step": trainer.best_step,
            "train_seconds": trainer.trained_seconds,
            "probe_share_of_step_time": share,
            "precision": precision,
            "device": str(device),
            "history_mode": built.model.mode,
            "backbone": config["backbone"],
            "backbone_fingerprint": backbone.fingerprint,
        },
    }


def _metrics_of(tested: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    return {name: test["metrics"] for name, test in tested.items() if "metrics" in test}


def _tasks_line(built: Built) -> str:
    told = ", ".join(f"{name} ({len(task)})" for name, task in built.tasks.items())
    left = "".join(f"\n  left out: {name}: {why}" for name, why in built.left_out.items())
    return f"tasks (training examples): {told}{left}"


def _merge(config: Config, splits: Splits, trainer: RecFoundTrainer, store: CheckpointStore) -> MergeOutcome:
    """Best single checkpoint, last one and merged one, each with item texts encoded by its own weights."""
    device, parameters = trainer.device, trained_parameters(trainer.model)
    merged, outcome = _merged(config, store, device)
    candidates = {"best": store.load(trainer.best_step, device).trained}
    # The same object twice is scored once.
    alike = trainer.best_step == trainer.step
    candidates["last"] = candidates["best"] if alike else store.load(trainer.step, device).trained
    if merged is not None:
        candidates["merged"] = merged

    def load(tensors: dict[str, torch.Tensor]) -> None:
        load_trained(parameters, tensors)
        with trainer.accelerator.autocast():
            trainer.model.refresh_items()

    def score(data: Any) -> dict[str, float]:
        with trainer.accelerator.autocast():
            return {name: float(value) for name, value in trainer.evaluate(data, load_best_model=False).items()}

    return choose(
        candidates,
        outcome,
        load,
        lambda: score(splits.valid_data),
        lambda: score(splits.test_data),
        config["valid_metric"].lower(),
        trainer.valid_metric_bigger,
    )


def _merged(config: Config, store: CheckpointStore, device: torch.device) -> tuple[dict[str, torch.Tensor] | None, MergeOutcome]:
    return merge_last(
        store, config["merge_last"], config["merge_method"], config["merge_density"], device, config["merge_sparsify"]
    )


def _by_titles(
    config: Config, splits: Splits | None, trainer: RecFoundTrainer, row: dict[str, Any]
) -> list[dict[str, Any]]:
    """The same model with its best items ranked by how likely it writes their titles, as a row of its own."""
    if splits is None or not config["generative_candidates"]:
        return []
    model, started = trainer.model, time.monotonic()
    model.rerank = GenerativeRanking(model, config["generative_candidates"])
    try:
        with trainer.accelerator.autocast():
            metrics = trainer.evaluate(splits.test_data, load_best_model=False, show_progress=config["show_progress"])
    finally:
        model.rerank = None
    ranked = min(config["generative_candidates"], model.n_items - 1)
    return [
        {
            **row,
            "model": f"{row['model']}, titles ranked",
            "metrics": {name: float(value) for name, value in metrics.items()},
            "task_metrics": {},
            "eval_seconds": time.monotonic() - started,
            "note": f"the {ranked} best items of the row below, by likelihood of their titles",
        }
    ]


def _merge_by_probes(config: Config, trainer: RecFoundTrainer, store: CheckpointStore) -> MergeOutcome:
    """Last checkpoint or merged one, without a ranking: by the tasks' mean probe loss over the untrained one."""
    device, parameters = trainer.device, trained_parameters(trainer.model)
    merged, outcome = _merged(config, store, device)
    candidates = {"last": store.load(trainer.step, device).trained}
    if merged is not None:
        candidates["merged"] = merged

    def probe() -> dict[str, float]:
        found = trainer.probes.measure(trainer.model, list(trainer.untrained))
        return {"probe_loss": sum(loss / max(trainer.untrained[name], 1e-8) for name, loss in found.items()) / len(found)}

    load = partial(load_trained, parameters)
    return choose(candidates, outcome, load, probe, dict, "probe_loss", bigger=False)


def _task_rows(
    built: Built, trainer: RecFoundTrainer, final: dict[str, float], tested: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "title": task.spec.title,
            "kind": task.spec.kind,
            "note": task.note,
            "size": round(len(task) * task.targets_per_example),
            "seen": built.loader.trained(name),
            "distinct": built.loader.distinct(name),
            "step_alone": built.loader.step_alone(name) * trainer.accelerator.gradient_accumulation_steps,
            "untrained_loss": trainer.untrained[name],
            "final_loss": final[name],
            "test": tested.get(name),
        }
        for name, task in built.tasks.items()
    ]


def _router(built: Built) -> dict[str, Any] | None:
    names = list(built.tasks)
    similarity = router_similarity(built.model.backbone, names)
    return {"tasks": names, "similarity": similarity} if similarity else None


@torch.no_grad()
def _examples(splits: Splits, built: Built, count: int = 10, shown: int = 5) -> list[dict[str, Any]]:
    """Recommendations for a few test users, as titles; what they had before is masked."""
    pairs = held_out(splits.test_set)
    chosen = pairs[:: max(1, len(pairs) // count)][:count]
    model, catalogue = built.model.eval(), built.catalogue
    row_of_iid = model.inputs.row_of_iid
    items, lengths = splits.known_at_test.padded(chosen[:, 0], splits.config["MAX_ITEM_LIST_LENGTH"])
    users = model.user_vectors(torch.from_numpy(items).to(model.device), torch.from_numpy(lengths).to(model.device))
    scores = users @ model.item_vectors().T
    scores[:, 0] = float("-inf")
    examples = []
    for (user, target), score in zip(chosen, scores):
        known = splits.known_at_test.of(user)
        score[torch.from_numpy(known[known != target]).to(model.device)] = float("-inf")
        titles = [catalogue.title_of(row_of_iid[iid]) for iid in score.topk(shown).indices.tolist()]
        examples.append(
            {
                "user": str(splits.train_set.id2token(splits.train_set.uid_field, user)),
                "history": [catalogue.title_of(row_of_iid[iid]) for iid in known[-shown:]],
                "recommended": titles,
                "held_out": catalogue.title_of(row_of_iid[target]),
            }
        )
    return examples


def _save(built: Built, folder: RunFolder) -> None:
    """Adapter in PEFT's format, every other trained tensor, and the item vectors."""
    built.model.backbone.save_pretrained(str(folder.path / "adapter"), save_embedding_layers=False)
    head = {name: w for name, w in trained_parameters(built.model).items() if not name.startswith("backbone.")}
    save_file({name: weight.detach().contiguous() for name, weight in head.items()}, folder.path / "head.safetensors")
    if not built.ranks:
        return
    vectors = built.model.eval().item_vectors().float().contiguous()
    save_file({"item_embeddings": vectors}, folder.path / "item_embeddings.safetensors")


def _finish(config: Config, folder: RunFolder, results: dict[str, Any], budget: Budget) -> dict[str, Any]:
    """Write results and report, print the table, hand RecBole's four back."""
    history_file = folder.trainer_state / "history.json"
    history = json.loads(history_file.read_text()) if history_file.is_file() else []
    run = results.setdefault("run", {})
    run["total_seconds"] = budget.elapsed()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run["peak_memory_gib"] = peak / (2**30 if sys.platform == "darwin" else 2**20)  # there bytes, elsewhere KiB
    write_text(folder.path / "report.html", render_report(results, history))
    # Last, since its presence says that the run is finished.
    write_text(folder.path / RESULTS, json.dumps(results, indent=1, ensure_ascii=False))
    lines = [protocol_line(results["protocol"]), format_table(results["rows"])]
    lines += task_lines(results.get("tasks", []))
    if "probe_share_of_step_time" in run:
        lines.append(f"probes took {100 * run['probe_share_of_step_time']:.1f}% of the training time")
    lines.append(f"{run['total_seconds']:.0f} s in all, peak memory {run['peak_memory_gib']:.1f} GiB")
    lines.append(f"report: {folder.path / 'report.html'}")
    print("\n" + "\n".join(lines), flush=True)
    row = results["rows"][-1]
    return {
        "best_valid_score": row["valid_metrics"].get(config["valid_metric"].lower()),
        "valid_score_bigger": config["valid_metric_bigger"],
        "best_valid_result": row["valid_metrics"],
        "test_result": row["metrics"],
        "comparison": results["rows"],
        "run_dir": str(folder.path),
    }
