"""Training of kernels: who moves, who rests, who is kept, and what beta does."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_recfound.baseline.finetune import METHODS, FineTuner, Recipe, build_method
from recbole_recfound.errors import ConfigError, TrainingError
from recbole_recfound.model.pretrained import forget_cached
from recbole_recfound.model.pretrained.make import make_base
from tests.small_iak import build_small_iak, shake


@pytest.fixture
def clicks(tiny_path):
    return build_small_iak("DeepFM", tiny_path)


def weights_of(model):
    return {name: weight.detach().clone() for name, weight in model.banks.named_parameters()}


def test_a_domain_without_rows_in_a_batch_and_a_stopped_one_stay_bit_equal(clicks):
    shake(clicks.model)
    trainer = clicks.trainer()
    trainer.stopped = [np.array([False, False])]
    rows = {number: trainer.sampler.rows[number][:20].tolist() for number in (0, 1)}
    clicks.model.train()
    trainer._step(clicks.plug.collate(rows[0] + rows[1]), "joint")
    for batch, stopped in [(rows[0], []), (rows[0] + rows[1], [1])]:
        trainer.stopped[0][stopped] = True
        before = weights_of(clicks.model)
        trainer._step(clicks.plug.collate(batch), "joint")
        after = weights_of(clicks.model)
        for name in before:
            assert torch.equal(before[name][1], after[name][1]), name
            assert not torch.equal(before[name][0], after[name][0]), name


def test_training_is_repeatable_and_every_tensor_learns(clicks, tiny_path):
    """An adapter that silently does not learn is the classic lie of this field."""
    runs = []
    for small in (clicks, build_small_iak("DeepFM", tiny_path)):
        before = weights_of(small.model)
        torch.manual_seed(1)
        trainer = small.trainer(epochs=3)
        trainer._restore = lambda kept: None  # look at the last weights, whatever the guard says
        trainer.fit(small.base_scores())
        runs.append(weights_of(small.model))
        for name, weight in runs[-1].items():
            assert all((weight[d] != before[name][d]).any() for d in range(2)), name
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


def test_a_kernel_that_does_not_beat_the_base_is_off(clicks):
    fitted = clicks.trainer(epochs=2).fit([np.array([np.inf, -np.inf])])
    bank = clicks.model.banks[0].places[0]
    assert bank.enabled.tolist() == [False, True]
    assert fitted.best_epoch[0][0] == 0 and fitted.best_epoch[0][1] > 0
    batch = clicks.batch()
    own = clicks.model.domain_of(batch)[:, 0] == 0
    assert torch.equal(clicks.model.eval().predict(batch)[own], clicks.plug.base.predict(batch)[own])


def test_the_kept_kernel_is_the_one_that_scored_best(clicks):
    trainer = clicks.trainer(epochs=5, learning_rate=0.02)
    seen, score = [], clicks.scorer.valid_scores

    def watched(collected, number):
        seen.append(score(collected, number))
        return seen[-1]

    clicks.scorer.valid_scores = watched
    fitted = trainer.fit([np.array([-10.0, -10.0])])
    assert len(seen) == 5 and not (seen[0] == seen[-1]).all()
    best = np.max(seen, axis=0)
    assert [seen[epoch - 1][d] for d, epoch in enumerate(fitted.best_epoch[0])] == best.tolist()
    assert score(clicks.scorer.collect(clicks.model, "valid"), 0).tolist() == best.tolist()


def test_patience_stops_domains_one_by_one(clicks):
    trainer = clicks.trainer(epochs=20, stopping_step=2, learning_rate=1e-9)
    fitted = trainer.fit([np.array([np.inf, np.inf])])
    assert fitted.epochs == 2 and fitted.converged
    trainer = clicks.trainer(epochs=6, stopping_step=1, learning_rate=1e-9)
    trainer.options = dataclasses.replace(trainer.options, least_steps=10**6)
    fitted = trainer.fit([np.array([np.inf, np.inf])])
    assert fitted.epochs == 6 and not fitted.converged, "least_steps come before patience"


def test_time_is_kept(clicks):
    trainer = clicks.trainer(epochs=50)
    trainer.deadline = 0.0
    assert trainer.fit(clicks.base_scores()).epochs == 1


def test_beta_warms_up_and_the_kl_at_the_end_falls_along_a_sweep(tiny_path):
    ends = []
    for beta in (0.0, 1e-2, 1.0):
        small = build_small_iak("DeepFM", tiny_path)
        torch.manual_seed(0)
        fitted = small.trainer(epochs=5, beta=beta, stopping_step=50).fit(small.base_scores())
        ends.append(np.mean([record["kl"] for record in fitted.history[-3:]]))
        used = [record["beta"] for record in fitted.history]
        assert used == sorted(used) and used[-1] == beta and (beta == 0 or used[0] < beta)
    assert ends[0] > 1.05 * ends[1] > 1.05**2 * ends[2]


def test_two_phases_train_the_encoder_first(tiny_path):
    small = build_small_iak("DeepFM", tiny_path, iak_args={"schedule": "two_phase"})
    bank, before = small.model.banks[0].places[0], weights_of(small.model)
    trainer = small.trainer(epochs=4, schedule="two_phase")
    trainer._restore = lambda kept: None
    halves = []
    original = trainer._train_epoch

    def watched(bar):
        original(bar)
        halves.append((trainer.phase, weights_of(small.model)))

    trainer._train_epoch = watched
    trainer.fit(small.base_scores())
    assert [phase for phase, _ in halves] == ["encoder", "encoder", "decoder", "decoder"]
    first, last = halves[1][1], halves[3][1]
    decoder = {id(weight) for weight in bank.group_of("decoder")}
    for name, weight in small.model.banks.named_parameters():
        own = id(weight) in decoder
        assert torch.equal(before[name], first[name]) == own, name
        assert torch.equal(first[name], last[name]) == (not own), name


def test_two_phases_reach_the_second_within_their_time(tiny_path):
    small = build_small_iak("DeepFM", tiny_path, iak_args={"schedule": "two_phase"})
    trainer = small.trainer(epochs=50, schedule="two_phase")
    phases, now = [], 0.0

    def epoch(bar):
        nonlocal now
        phases.append(trainer.phase)
        now += 1.0

    trainer._train_epoch, trainer.deadline = epoch, 8.5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recbole_recfound.trainer.kernels.time.monotonic", lambda: now)
        trainer.fit(small.base_scores())
    assert phases == ["encoder"] * 5 + ["decoder"] * 3


def test_distillation_keeps_nearer_to_the_base(tiny_path):
    distances = []
    for weight in (0.0, 100.0):
        small = build_small_iak("DeepFM", tiny_path)
        torch.manual_seed(0)
        small.trainer(epochs=3, lambda_kd=weight).fit([scores - 1 for scores in small.base_scores()])
        small.model.eval()
        distances.append(small.model.losses(small.batch()).distill.item())
    assert distances[1] < 0.5 * distances[0]


def test_a_cold_domain_gets_the_mean_kernel(tiny_path):
    small = build_small_iak("DeepFM", tiny_path)
    trainer = small.trainer(cold="mean", epochs=1)
    trainer.sampler.rows[1] = trainer.sampler.rows[1][:0]
    trainer.sampler.stopped[1] = True
    trainer.fit([scores - 1 for scores in small.base_scores()])
    bank = small.model.banks[0].places[0]
    assert bank.enabled.tolist() == [True, True]
    assert all(torch.equal(weight[0], weight[1]) for weight in bank.parameters())
    small = build_small_iak("DeepFM", tiny_path)
    trainer = small.trainer(cold="base", epochs=1)
    trainer.sampler.rows[1] = trainer.sampler.rows[1][:0]
    trainer.sampler.stopped[1] = True
    trainer.fit([scores - 1 for scores in small.base_scores()])
    assert small.model.banks[0].enabled.tolist() == [True, False]


def test_rows_of_the_second_type_alone_train_it(tiny_path):
    """Rows of users without a gender train the kernels of their ages, also after all gender domains have stopped."""
    small = build_small_iak("DeepFM", tiny_path, domain=["gender", "age:25/40"])
    small.domains[0].table[small.domains[0].table == 1] = -1
    train = small.splits.train_set.inter_feat
    small.domains[1].table[train["user_id"][small.domains[0].of(train) == 0].unique()] = -1
    assert (small.domains[1].of(train) >= 0).any() and not (
        (small.domains[1].of(train) >= 0) & (small.domains[0].of(train) >= 0)
    ).any()
    before = weights_of(small.model)
    trainer = small.trainer(epochs=2)
    assert len(trainer.sampler.rows) == 3 and len(trainer.sampler.rows[2])
    trainer.fit([scores - 1 for scores in small.base_scores()])
    after = weights_of(small.model)
    moved = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"0", "1"}
    trainer._stop(0, np.array([True, True]))
    assert trainer.stopped[0].all() and not trainer.sampler.stopped[[0, 2]].any()


def test_cold_domains_of_every_type_get_the_mean_kernel(tiny_path):
    small = build_small_iak("DeepFM", tiny_path, domain=["gender", "age:25/40"])
    train = small.splits.train_set.inter_feat
    table = small.domains[1].table
    table[train["user_id"][small.domains[1].of(train) == 2].unique()] = -1  # nobody over 40 in training
    trainer = small.trainer(cold="mean", epochs=1)
    # The guard of several types may turn any of these barely trained kernels off, which is not what this test is about.
    trainer._guard = lambda epochs: [
        bank.enable(torch.from_numpy(found != 0)) for bank, found in zip(small.model.banks, epochs, strict=True)
    ]
    trainer.fit([scores - 1 for scores in small.base_scores()])
    bank = small.model.banks[1].places[0]
    assert bank.enabled.tolist() == [True, True, True]
    assert all(torch.allclose(weight[2], weight[:2].mean(0)) for weight in bank.parameters())


def test_several_types_train_and_are_guarded(tiny_path):
    small = build_small_iak("DeepFM", tiny_path, domain=["gender", "age:25/40"])
    before = weights_of(small.model)
    small.trainer(epochs=2).fit([scores - 1 for scores in small.base_scores()])
    after = weights_of(small.model)
    assert all(not torch.equal(before[name], after[name]) for name in before if "output_weight" in name)
    # Whatever is left on is worth it beside what else is left on.
    score = lambda number: small.scorer.valid_scores(small.scorer.collect(small.model, "valid"), number)  # noqa: E731
    for number, bank in enumerate(small.model.banks):
        on, scores = bank.enabled.clone(), score(number)
        bank.enabled.zero_()
        without = score(number)
        bank.enabled.copy_(on)
        assert on.any() and (scores > without)[on.numpy()].all()


def test_warm_kernels_that_are_better_than_the_base_stay_when_training_makes_them_worse(clicks):
    began = weights_of(clicks.model)
    trainer = clicks.trainer(epochs=2)
    score = clicks.scorer.valid_scores
    answers = iter([np.array([0.9, 0.1]), np.array([0.6, 0.6]), np.array([0.7, 0.4])])
    clicks.scorer.valid_scores = lambda collected, number: next(answers)
    fitted = trainer.fit([np.array([0.5, 0.5])], warm=True)
    clicks.scorer.valid_scores = score
    bank = clicks.model.banks[0].places[0]
    assert fitted.best_epoch[0].tolist() == [-1, 1] and bank.enabled.tolist() == [True, True]
    after = weights_of(clicks.model)
    assert all(torch.equal(before[0], after[name][0]) for name, before in began.items())
    assert any(not torch.equal(before[1], after[name][1]) for name, before in began.items())


def test_a_cold_domain_keeps_the_kernel_it_began_from_when_that_is_better_than_the_base(tiny_path):
    small = build_small_iak("DeepFM", tiny_path)
    shake(small.model)
    began = weights_of(small.model)
    trainer = small.trainer(cold="mean", epochs=1)
    trainer.sampler.rows[1] = trainer.sampler.rows[1][:0]
    trainer.sampler.stopped[1] = True
    trainer.fit([scores - 9 for scores in small.base_scores()], warm=True)
    after = weights_of(small.model)
    assert small.model.banks[0].enabled.tolist() == [True, True]
    assert all(torch.equal(began[name][1], after[name][1]) for name in began)


def test_a_loss_that_is_not_finite_ends_training_with_one_line(clicks):
    with torch.no_grad():
        clicks.model.banks[0].places[0].output_weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match="IAK's loss is nan at step 1"):
        clicks.trainer().fit(clicks.base_scores())


# The baselines of fine-tuning


def tuner_of(small, **changes) -> FineTuner:
    trainer = small.trainer(**changes)
    recipe = Recipe(
        small.plug.base, small.plug.family, small.plug.width, 4, lambda: make_base(small.splits.train_set, None)
    )
    return FineTuner(recipe, trainer.sampler, small.plug.collate, small.scorer, trainer.options)


def scores_of(model, small):
    """Scores of some test rows, which must be the same pair by pair."""
    rows = next(iter(small.splits.test_data))[0]
    model.eval()
    forget_cached(model)
    with torch.no_grad():
        if small.config.final_config_dict["eval_args"]["mode"]["test"] == "labeled":
            return model.predict(rows)
        found = model.full_sort_predict(rows).view(len(rows), -1)
        for item in (1, found.shape[1] - 1):
            pairs = copy.deepcopy(rows)
            pairs.update(Interaction({"item_id": torch.full((len(rows),), item)}))
            torch.testing.assert_close(model.predict(pairs), found[:, item])
    return found


@pytest.mark.parametrize("model", ["DeepFM", "SASRec", "LightGCN", "BPR"])
def test_methods_train_what_they_say_and_nothing_else(model, tiny_path):
    small = build_small_iak(model, tiny_path)
    recipe = tuner_of(small).recipe
    untuned = scores_of(small.plug.base, small)
    base = copy.deepcopy(small.plug.base.state_dict())
    whole = sum(weight.numel() for weight in small.plug.base.parameters())
    batch, sizes = small.batch(), {}
    for method in METHODS[1:]:
        if method == "bitfit" and model in ("LightGCN", "BPR"):
            with pytest.raises(ConfigError, match=f"{model} has nothing that bitfit could train"):
                build_method(method, recipe)
            continue
        tuned, loss = build_method(method, recipe)
        tuned.train()
        trained = [weight for weight in tuned.parameters() if weight.requires_grad]
        sizes[method] = sum(weight.numel() for weight in trained)
        optimizer = torch.optim.SGD(trained, lr=0.1)
        loss(batch).backward()
        assert any(weight.grad is not None and weight.grad.any() for weight in trained), method
        optimizer.step()
        assert not torch.equal(scores_of(tuned, small), untuned), f"{method} trains what no score reads"
        assert all(torch.equal(base[name], tensor) for name, tensor in small.plug.base.state_dict().items()), method
    assert sizes["full"] == sizes["scratch"] == whole
    assert all(0 < size < whole for method, size in sizes.items() if method not in ("full", "scratch"))


@pytest.mark.parametrize("model", ["DeepFM", "GRU4Rec"])
def test_rows_of_the_table(model, tiny_path):
    small = build_small_iak(model, tiny_path)
    tuner = tuner_of(small, epochs=1)
    frozen = tuner.run("frozen")
    assert frozen["metrics"] == small.scorer.summary(small.scorer.collect(small.plug.base, "test"), "test")["metrics"]
    assert frozen["trainable_parameters"] == 0
    for method in ("adapter", "lora", "full", "scratch"):
        row = tuner.run(method)
        assert (
            set(row["metrics"]) == set(frozen["metrics"])
            and row["trainable_parameters"] == 2 * row["parameters_per_domain"]
        )
    # a rate of nothing changes nothing: the guard keeps the base, scratch does not
    still = dataclasses.replace(tuner, options=dataclasses.replace(tuner.options, learning_rate=1e-12))
    assert still.run("adapter")["metrics"] == frozen["metrics"]


def test_rows_say_whether_early_stopping_ended_the_training_of_all_domains(clicks):
    tuner = tuner_of(clicks, epochs=3, stopping_step=5)
    row = tuner.run("full")
    assert not row["converged"] and row["note"].endswith("of 2 domains; not converged: stopped after 3 epochs")
    options = dataclasses.replace(tuner.options, epochs=9, stopping_step=1, learning_rate=1e-12)
    row = dataclasses.replace(tuner, options=options).run("full")
    assert row["converged"] and row["note"] == "better than the base in 0 of 2 domains"
    late = dataclasses.replace(tuner, options=options, deadline=0.0).run("scratch")
    end = "not converged: stopped after 0 epochs; cut off by the time budget"
    assert not late["converged"] and late["note"] == f"one model per domain; {end}"
    tuner.sampler.steps = np.array([1, 9])  # of an epoch: the first domain never makes its least number
    row = dataclasses.replace(tuner, options=dataclasses.replace(options, least_steps=20)).run("adapter")
    assert not row["converged"] and row["note"].endswith("of 2 domains; not converged: stopped after 9 epochs")
    assert tuner.run("frozen")["converged"], "it trains nothing"


@pytest.mark.parametrize("way", ["kernels", "adapter", "full"])
def test_test_rows_choose_nothing(way, tiny_path):
    """Turning every label of the test part changes no choice."""
    chosen = []
    for turned in (False, True):
        small = build_small_iak("DeepFM", tiny_path)
        if turned:
            rows = small.scorer.rows["test"].interaction
            rows["label"] = 1 - rows["label"]
        torch.manual_seed(0)
        if way == "kernels":
            fitted = small.trainer(epochs=4).fit(small.base_scores())
            chosen.append(
                [fitted.best_epoch[0].tolist(), [weight.tolist() for weight in small.model.banks.parameters()]]
            )
        else:
            row = tuner_of(small, epochs=4).run(way)
            chosen.append([row["valid_metrics"], row["note"]])
    assert chosen[0] == chosen[1]
