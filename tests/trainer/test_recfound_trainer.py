"""The training loop on the tiny backbone."""

import importlib.machinery
import json
import sys
import types
from pathlib import Path

import pytest
import torch

from recbole_recfound.errors import DataError, TrainingError
from recbole_recfound.model.trained import trained_parameters
from recbole_recfound.quick_start import run_recfound
from recbole_recfound.runtime.time_plan import TimePlan
from recbole_recfound.trainer.optimizer import build_optimizer
from recbole_recfound.trainer.recfound import RecFoundTrainer
from tests.small_model import build_small, perturb


def _fit(settings, folder, **changes):
    small = build_small(settings, **changes)
    trainer = small.trainer(folder)
    trainer.fit(small.loader, small.splits.valid_data, verbose=False)
    return trainer


def _losses(trainer):
    return [record["losses"] for record in trainer.history]


def test_same_seed_same_losses(small_run, tmp_path):
    first, second, other = (_fit(small_run, tmp_path / str(at), seed=seed) for at, seed in enumerate((5, 5, 6)))
    assert _losses(first) == _losses(second) != _losses(other)


def test_checkpoints_of_another_backbone_are_refused(small_run, tmp_path):
    trainer = _fit(small_run, tmp_path, max_steps=2)
    checkpoint = trainer.store.load(2, trainer.device)
    checkpoint.state["backbone"] = "another"
    with pytest.raises(DataError, match="the checkpoints belong to another backbone .* start a new run"):
        trainer.restore(checkpoint)


def test_optimiser_has_the_trained_parameters_and_nothing_else(small_run, tmp_path):
    small = build_small(small_run, learning_rate=0.01, adapter_rate=0.002, weight_decay=0.1)
    trainer = small.trainer(tmp_path)
    groups = trainer.optimizer.param_groups
    names = {id(weight): name for name, weight in small.model.named_parameters()}
    found = {names[id(weight)]: (group["lr"], group["weight_decay"]) for group in groups for weight in group["params"]}
    assert found.keys() == trained_parameters(small.model).keys()
    assert not any("base_layer" in name or "embed_tokens" in name for name in found)
    for name, weight in trained_parameters(small.model).items():
        inside = name.startswith("backbone.")
        assert found[name] == (0.002 if inside else 0.01, 0.1 if not inside and weight.dim() > 1 else 0.0), name


@pytest.mark.parametrize("learner", ["adamw", "Adam", "sgd"])
def test_learners(learner):
    model = torch.nn.Linear(2, 2)
    optimizer = build_optimizer(model, learner, 0.1, 0.1, 0.0)
    before = model.weight.detach().clone()
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert not torch.equal(model.weight, before)


def test_schedule_of_the_rates(small_run, tmp_path, monkeypatch):
    seen = []
    step = RecFoundTrainer._clip
    monkeypatch.setattr(
        RecFoundTrainer, "_clip", lambda self: (seen.append(self.optimizer.param_groups[0]["lr"]), step(self))[1]
    )
    trainer = _fit(small_run, tmp_path, max_steps=4, warmup_steps=2)
    assert seen == pytest.approx([rate * trainer.base_rates[0] for rate in (0.5, 0.75, 0.5, 0.25)])


def test_every_task_is_probed_in_every_interval(small_run, tmp_path):
    trainer = _fit(small_run, tmp_path, max_steps=8, probe_args={"interval": 4})
    assert set(trainer.untrained) == set(trainer.loader.tasks)
    for start in range(5):
        window = trainer.history[start : start + 4]
        assert {name for record in window for name in record["probed"]} == set(trainer.loader.tasks)
    assert 0 < trainer.probe_share < 1


def test_early_stopping(small_run, tmp_path, monkeypatch):
    scores = iter([0.2, 0.3, 0.1, 0.1, 0.1, 0.9])
    monkeypatch.setattr(RecFoundTrainer, "evaluate", lambda self, *_, **__: {"ndcg@10": next(scores)})
    trainer = _fit(small_run, tmp_path, max_steps=50, eval_interval=1, stopping_step=2)
    assert (trainer.step, trainer.best_step, trainer.best_valid_score) == (5, 2, 0.3)
    assert trainer.store.steps() == [0, 2, 3, 4, 5]


@pytest.mark.parametrize("where", ["loss", "gradient", "probe"])
def test_not_a_number_stops_and_keeps_the_last_checkpoint(small_run, tmp_path, monkeypatch, where):
    small = build_small(small_run, max_steps=9, eval_interval=2, probe_args={"interval": 1})
    trainer = small.trainer(tmp_path)
    answer = small.model.example_losses

    def broken(part):
        losses = answer(part)
        late = trainer.step == 4 if small.model.training else trainer.step == 5
        if not late or "SR" not in part.tasks or (where == "probe") == small.model.training:
            return losses
        # A finite loss with an infinite gradient: the square root at zero.
        planted = torch.sqrt(losses - losses.detach() + 0.0) if where == "gradient" else losses * float("nan")
        return torch.where(torch.tensor([task == "SR" for task in part.tasks]), losses + planted, losses)

    monkeypatch.setattr(small.model, "example_losses", broken)
    # Every step has an SR example.
    monkeypatch.setattr(small.loader.scheduler, "allocate", lambda sizes: dict.fromkeys(small.loader.tasks, 2))
    said = {
        "loss": r"loss of task SR is nan in step 5 \(batch .*'SR': 2",
        "gradient": r"the gradient is (nan|inf) in step 5 .*SR",
        "probe": "probe loss of task SR is nan after step 5",
    }[where]
    with pytest.raises(TrainingError, match=said + ".*the last good checkpoint is step 4"):
        trainer.fit(small.loader, small.splits.valid_data, verbose=False)
    assert trainer.store.steps() == [0, 2, 4]
    good = trainer.store.load(4, small.device)
    assert all(tensor.isfinite().all() for tensor in good.trained.values())
    if where != "probe":
        assert all(torch.equal(weight, good.trained[name]) for name, weight in trained_parameters(small.model).items())


def test_gradient_accumulation_equals_a_batch_twice_as_large(small_run, tmp_path):
    """Sequences only, and no factors (a batch reads them without its own users): halves have the loss of the whole."""
    changes = {
        "tasks": ["U2I"],
        "max_steps": 3,
        "eval_interval": 3,
        "dropout": 0.0,
        "item_args": {"text_alone": 0.0, "factors": 0},
        "learner": "sgd",
        "learning_rate": 0.1,
        "adapter_rate": 0.1,
    }
    whole = _fit(small_run, tmp_path / "a", batch_args={"embedding": 8}, **changes)
    halves = _fit(small_run, tmp_path / "b", batch_args={"embedding": 4, "accumulation": 2}, **changes)
    assert (
        [record["counts"] for record in halves.history]
        == [record["counts"] for record in whole.history]
        == [{"U2I": 8}] * 3
    )
    ours, theirs = trained_parameters(halves.model), trained_parameters(whole.model)
    start = whole.store.load(0, whole.device).trained
    for name, weight in theirs.items():
        moved = (weight - start[name]).norm()
        assert (ours[name] - weight).norm() <= 1e-3 * moved + 1e-7, name
    assert any(not torch.equal(weight, start[name]) for name, weight in theirs.items())


def test_tasks_that_come_in_one_of_the_accumulated_batches_only(small_run, tmp_path):
    """Pairs and prompts wait for one another, so a task may be in the first batch of a step and not in the last."""
    trainer = _fit(
        small_run,
        tmp_path,
        max_steps=6,
        eval_interval=6,
        batch_args={"accumulation": 2, "contrastive": 3, "generative_chunk": 3},
    )
    assert all(record["counts"].keys() == record["losses"].keys() for record in trainer.history)
    counted = {name: sum(record["counts"].get(name, 0) for record in trainer.history) for name in trainer.loader.tasks}
    assert counted == {name: trainer.loader.trained(name) for name in trainer.loader.tasks}


def test_a_limited_run_knows_the_cost_of_validation_before_the_first_one(small_run, tmp_path):
    small = build_small(small_run, max_steps=2, eval_interval=50)
    trainer = small.trainer(tmp_path, TimePlan(600))
    planned = []
    plan = trainer._plan_end
    trainer._plan_end = lambda: (planned.append(dict(trainer.costs)), plan())
    trainer.fit(small.loader, small.splits.valid_data, verbose=False)
    assert planned[0]["validate"] > 0


def test_bypassed_layers_are_no_silent_adapter(small_run, tmp_path):
    """Histories go past the backbone, and the first batches hold nothing else: pairs and prompts wait."""
    trainer = _fit(
        small_run,
        tmp_path,
        max_steps=8,
        eval_interval=8,
        control="no_body",
        batch_args={"contrastive": 8, "generative_chunk": 8},
    )
    assert set(trainer.history[0]["counts"]) == {"U2I"} and len(trainer.gradients.checked) >= 1


def test_a_training_that_is_over_is_validated_once(small_run, tmp_path, monkeypatch):
    """A validation that was faster than planned leaves time, which is no reason to validate step by step."""
    small = build_small(small_run, max_steps=50, eval_interval=50)
    trainer = small.trainer(tmp_path, TimePlan(600))
    plan, validated = trainer._plan_end, []
    ends = iter([0.0])  # the first plan leaves no time after the first step, later ones plenty
    monkeypatch.setattr(trainer, "_plan_end", lambda: (plan(), setattr(trainer, "seconds_allowed", next(ends, 500.0))))
    monkeypatch.setattr(
        trainer, "_progress", lambda: float(trainer.step > 0 and trainer.trained_seconds >= trainer.seconds_allowed)
    )
    trainer.fit(
        small.loader, small.splits.valid_data, verbose=False, callback_fn=lambda step, score: validated.append(step)
    )
    assert validated == [1] and trainer.seconds_allowed == 500.0


def test_parts_of_a_step_one_by_one_have_the_gradient_of_their_sum(small_run, tmp_path):
    sizes, items = {"generative_chunk": 1, "contrastive": 1}, {"text_alone": 0.0}
    small = build_small(small_run, dropout=0.0, batch_args=sizes, item_args=items, scheduler="coba")
    perturb(small.model)
    trainer = small.trainer(tmp_path)
    trainer.loader = small.loader
    small.model.refresh_items()
    small.model.train()
    batch = small.loader.collate(
        {name: [(i, i) for i in range(3 + at)] for at, name in enumerate(("U2I", "I2I", "Q2I", "SR", "IP"))}
    )
    assert len(batch.parts) > 3
    weights = {"U2I": 2.0, "SR": 0.5}
    small.loader.scheduler.loss_weights = lambda: weights
    losses = trainer._backward(batch)
    ours = {
        name: weight.grad.clone() for name, weight in trained_parameters(small.model).items() if weight.grad is not None
    }
    small.model.zero_grad()
    sum(small.model.calculate_loss(batch)).backward()
    theirs = {name: weight.grad for name, weight in trained_parameters(small.model).items() if weight.grad is not None}
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
    assert losses == pytest.approx({name: loss.item() for name, loss in small.model.task_losses.items()}, rel=1e-4)


def test_a_silent_adapter_is_found_at_the_start(small_run, monkeypatch):
    monkeypatch.setattr(
        "recbole_recfound.adapter.tmole.layer.Linear.forward", lambda self, x, *_, **__: self.base_layer(x)
    )
    with pytest.raises(TrainingError, match="has no effect"):
        build_small(small_run)


def test_an_adapter_without_gradients_is_found_in_the_first_step(small_run, tmp_path, monkeypatch):
    small = build_small(small_run)
    decode = small.model.user_tower.over_items
    monkeypatch.setattr(small.model.user_tower, "over_items", lambda *given: decode(*given).detach().requires_grad_())
    small.loader.batch_sizes = {"embedding": 4}
    monkeypatch.setattr(small.loader.scheduler, "allocate", lambda sizes: {"U2I": 4})
    with pytest.raises(TrainingError, match="adapter: no gradient reached"):
        small.trainer(tmp_path).fit(small.loader, small.splits.valid_data, verbose=False)


def test_training_without_an_adapter_leaves_none(small_run, tmp_path):
    trainer = _fit(small_run, tmp_path, control="no_adapter", max_steps=6, batch_args={"cache_chunk": 1})
    assert not any(name.startswith("backbone.") for name in trained_parameters(trainer.model))
    assert all(not weight.any() for name, weight in trainer.model.named_parameters() if "lora_B" in name)


def test_no_time_left_trains_nothing_and_still_reports(small_run):
    result = run_recfound("RecFound", "tiny", config_dict=small_run | {"time_budget": 0.01})
    assert json.loads((Path(result["run_dir"]) / "results.json").read_text())["run"]["steps"] == 0
    assert result["comparison"][-1]["note"] == "untrained"


def test_a_run_that_is_not_saved_leaves_its_table_and_no_weights(small_run):
    result = run_recfound("RecFound", "tiny", config_dict=small_run | {"max_steps": 2}, saved=False)
    folder = Path(result["run_dir"])
    assert (folder / "results.json").is_file() and not list(folder.rglob("*.safetensors"))


def test_a_resumed_run_has_what_is_left_of_its_time(small_run, tmp_path):
    _fit(small_run, tmp_path, max_steps=2)
    state = json.loads((tmp_path / "step-0000002" / "state.json").read_text())
    small = build_small(small_run, max_steps=2)
    trainer = small.trainer(tmp_path, TimePlan(1000))
    trainer.fit(small.loader, small.splits.valid_data, verbose=False)
    assert trainer.step == 2 and trainer.trained_seconds == state["seconds"][0]
    assert sum(state["spent"].values()) > 0 and trainer.plan.elapsed() >= sum(state["spent"].values())


def test_a_small_model_learns(small_run, tmp_path):
    trainer = _fit(
        small_run,
        tmp_path,
        max_steps=40,
        eval_interval=40,
        batch_args={"embedding": 16},
        learning_rate=0.01,
        warmup_steps=2,
    )
    final = trainer.probes.measure(trainer.model, ["U2I"])
    first, last = (
        sum(record["losses"]["U2I"] for record in part) / 5 for part in (trainer.history[:5], trainer.history[-5:])
    )
    assert last < 0.9 * first and final["U2I"] < trainer.untrained["U2I"]


def test_weights_that_have_diverged_are_neither_scored_nor_kept(small_run, tmp_path, monkeypatch):
    """The losses of a step tell of the weights before it: those it has made are looked at before a checkpoint."""
    small = build_small(small_run)
    trainer = small.trainer(tmp_path)
    step = trainer._train_step

    def diverging():
        step()
        if trainer.step == 4:
            with torch.no_grad():
                trained_parameters(small.model)["user_tower.project.bias"][3] = float("inf")

    monkeypatch.setattr(trainer, "_train_step", diverging)
    with pytest.raises(
        TrainingError, match=r"user_tower.project.bias is not finite after step 4; the last good checkpoint is step 2"
    ):
        trainer.fit(small.loader, small.splits.valid_data, verbose=False)
    assert trainer.store.steps() == [0, 2]
    assert all(tensor.isfinite().all() for tensor in trainer.store.load(2, trainer.device).trained.values())


def test_wandb_is_told_of_the_kept_candidate(small_run, monkeypatch):
    """RecBole writes every evaluation into the run's summary, and candidates are evaluated one after another."""
    run = types.SimpleNamespace(summary={})
    wandb = types.ModuleType("wandb")
    wandb.run, wandb.log, wandb.define_metric = run, lambda *_, **__: None, lambda *_, **__: None
    wandb.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    result = run_recfound(
        "RecFound", "tiny", config_dict=small_run | {"log_wandb": True, "max_steps": 6, "control": "no_recent_items"}
    )
    candidates = json.loads((Path(result["run_dir"]) / "results.json").read_text())["merge"]["test"]
    assert len({tuple(found.values()) for found in candidates.values()}) > 1, (
        "candidates that are alike would prove nothing"
    )
    told = {name.removeprefix("eval/"): value for name, value in run.summary.items()}
    assert told == result["test_result"]


def test_without_time_the_model_is_said_to_be_untrained(small_run, tmp_path, caplog):
    small = build_small(small_run)
    plan = TimePlan(1.0)
    plan.reserved["report"] = 20.0
    trainer = small.trainer(tmp_path, plan)
    trainer.fit(small.loader, small.splits.valid_data, verbose=False)
    assert trainer.step == 0 and "the model is untrained" in caplog.text


def test_a_validation_is_estimated_with_its_catalogue_once(small_run, tmp_path, monkeypatch):
    small = build_small(small_run)
    trainer = small.trainer(tmp_path, TimePlan(100.0))
    now, encoded = [0.0], []

    def score(interaction):
        now[0] += 1.0 if encoded else 11.0
        encoded.append(True)

    monkeypatch.setattr("recbole_recfound.trainer.recfound.time.perf_counter", lambda: now[0])
    monkeypatch.setattr(small.model, "full_sort_predict", score)
    batch = next(iter(small.splits.valid_data))
    trainer._estimate_validation([batch] * 5)
    assert trainer.costs["validate"] == 11 + 4
