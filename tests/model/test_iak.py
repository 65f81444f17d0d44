"""Kernels in RecBole's models: the base at the start, the base untouched, any batch of domains in one pass."""

import copy

import pytest
import torch
from torch import nn

from recbole_recfound.errors import ConfigError
from recbole_recfound.model.iak import DOMAIN_FIELD
from recbole_recfound.model.pretrained import Attachment, base_hash
from recbole_recfound.trainer.kernels import KernelTrainer
from tests.small_iak import OPTIONS, build_small_iak, shake

MODELS = list(OPTIONS)


def scores(model, small) -> dict[str, torch.Tensor]:
    """What a model says about training rows and about the test rows."""
    model.eval()
    batch = small.batch()
    found = {"predict": model.predict(batch)}
    found |= {f"test {key}": values for key, values in small.scorer.collect(model, "test").items()}
    return found


@pytest.fixture(params=MODELS)
def small(request, tiny_path):
    return build_small_iak(request.param, tiny_path)


def test_untrained_kernels_are_the_base(small):
    base, ours = scores(small.plug.base, small), scores(small.model, small)
    assert all(torch.equal(base[key], ours[key]) for key in base)
    small.model.train()
    batch = small.batch()
    torch.testing.assert_close(
        small.model.losses(batch).matching, small.plug.family.loss(small.plug.base.eval(), batch)
    )


def test_moved_kernels_change_their_own_domain_only(small):
    before = scores(small.plug.base, small)
    shake(small.model)
    small.model.banks[0].enabled[1] = False
    batch = small.batch()
    domain = small.model.domain_of(batch)[:, 0]
    assert set(domain.tolist()) == {0, 1}
    now, base = scores(small.model, small)["predict"], before["predict"]
    assert torch.equal(now[domain == 1], base[domain == 1])
    assert (now[domain == 0] != base[domain == 0]).float().mean() > 0.9
    unknown = batch.to("cpu")
    unknown.interaction[DOMAIN_FIELD] = torch.full((len(batch), 1), -1)
    assert torch.equal(small.model.predict(unknown), base)
    after = scores(small.plug.base, small)
    assert all(torch.equal(before[key], after[key]) for key in before), "the base is as it was, outside of the kernels"


def test_a_mixed_batch_equals_domain_by_domain(small):
    shake(small.model)
    batch = small.batch()
    domain = small.model.domain_of(batch)[:, 0]
    whole = small.model.eval().predict(batch)
    for number in (0, 1):
        torch.testing.assert_close(
            small.model.predict(batch[domain == number]), whole[domain == number], rtol=1e-4, atol=1e-6
        )


def test_the_base_stays_frozen_through_recboles_train(small):
    before, digest = copy.deepcopy(small.plug.base.state_dict()), base_hash(small.plug.base, "x")
    small.model.train()
    assert not any(module.training for module in small.plug.base.modules())
    assert all(module.training for module in small.model.banks.modules())
    assert isinstance(small.trainer(), KernelTrainer)
    small.trainer(epochs=2).fit(small.base_scores())
    assert all(torch.equal(before[name], tensor) for name, tensor in small.plug.base.state_dict().items())
    assert base_hash(small.plug.base, "x") == digest
    assert not any(weight.requires_grad for weight in small.plug.base.parameters())


def test_every_part_of_the_loss_reaches_what_it_should(small):
    small.model.train()
    shake(small.model, size=0.05)
    losses = small.model.losses(small.batch())
    bank = small.model.banks[0].places[0]
    losses.matching.backward(retain_graph=True)
    assert bank.output_weight.grad.any() and bank.encoder_weight.grad.any() and bank.aux_weight.grad is None
    bank.zero_grad()
    losses.compression.backward(retain_graph=True)
    assert bank.aux_weight.grad.any() and bank.encoder_weight.grad.any() and bank.output_weight.grad is None
    bank.zero_grad()
    losses.kl.backward(retain_graph=True)
    assert bank.logvar_weight.grad.any() and bank.project.grad is None
    assert losses.kl > 0 and losses.distill > 0
    assert all(weight.grad is None for weight in small.plug.base.parameters())


def test_batch_norm_would_have_moved(tiny_path):
    """The test above can fail: DCNV2 has BatchNorm and dropout, which `train()` on the base itself would set going."""
    small = build_small_iak("DCNV2", tiny_path)
    assert any(isinstance(module, nn.BatchNorm1d) for module in small.plug.base.modules())
    running = next(module for module in small.plug.base.modules() if isinstance(module, nn.BatchNorm1d)).running_mean
    before = running.clone()
    small.model.train()
    small.model.losses(small.batch())
    assert torch.equal(running, before)
    small.plug.base.train()
    small.plug.base.calculate_loss(small.batch())
    assert not torch.equal(running, before)


def test_a_table_that_the_base_keeps_belongs_to_nobody_else(tiny_path):
    """LightGCN keeps its propagated table from one full_sort_predict to the next."""
    small = build_small_iak("LightGCN", tiny_path)
    base = scores(small.plug.base, small)
    shake(small.model, size=3.0)
    ours = scores(small.model, small)["predict"]
    users = small.scorer.rows["test"].interaction
    plain = small.plug.base.full_sort_predict(users)
    with Attachment(small.plug.base, small.plug.family.place).using(lambda h: -h):
        torch.testing.assert_close(small.plug.base.full_sort_predict(users), -plain)
    adapted = small.model.full_sort_predict(users)
    assert not torch.equal(adapted, plain) and not torch.equal(ours, base["predict"])
    assert torch.equal(small.plug.base.full_sort_predict(users), plain)


def test_several_types_of_domain_add_their_changes(tiny_path):
    small = build_small_iak("DeepFM", tiny_path, domain=["gender", "age:25/40"])
    shake(small.model)
    small.model.eval()
    h, domain = torch.randn(30, small.plug.width), torch.stack([torch.arange(30) % 2, torch.arange(30) % 4 - 1], dim=1)
    both = small.model.adapt(h, domain)
    parts = [bank.places[0](h, domain[:, number]) - h for number, bank in enumerate(small.model.banks)]
    torch.testing.assert_close(both, h + sum(parts))
    with pytest.raises(ConfigError, match="kernel_args: combine: got gated, expected residual"):
        build_small_iak("DeepFM", tiny_path, domain=["gender", "age:25/40"], kernel_args={"combine": "gated"})


@pytest.mark.parametrize("layer", ["mlp_layers", "input:deep_predict_layer", "method:concat_embed_input_fields"])
def test_other_places(layer, tiny_path):
    small = build_small_iak("DeepFM", tiny_path, kernel_args={"layer": layer}, iak_args={"lambda_c": 0})
    base = scores(small.plug.base, small)
    assert all(torch.equal(base[key], values) for key, values in scores(small.model, small).items())
    shake(small.model)
    assert not torch.equal(scores(small.model, small)["predict"], base["predict"])


TWO = ["input:mlp_layers", "input:deep_predict_layer"]


def test_kernels_at_two_places(tiny_path):
    """Untrained they are the base; each place changes the scores by itself, and switching a domain off is for both."""
    small = build_small_iak("DeepFM", tiny_path, kernel_args={"layer": TWO})
    base = scores(small.plug.base, small)["predict"]
    assert torch.equal(scores(small.model, small)["predict"], base)
    kernels = small.model.banks[0]
    assert [bank.aux_size for bank in kernels.places] == [0, 1], "what predicts stands at the last place"
    shake(small.model)
    both = scores(small.model, small)["predict"]
    alone = []
    for place in (0, 1):
        outputs = [kernels.places[place].output_weight, kernels.places[place].project]
        kept = [weight.detach().clone() for weight in outputs]
        bias = kernels.places[place].output_bias.detach().clone()
        with torch.no_grad():
            for weight in (*outputs, kernels.places[place].output_bias):
                weight.zero_()
        alone.append(scores(small.model, small)["predict"])
        with torch.no_grad():
            for weight, copy_ in zip((*outputs, kernels.places[place].output_bias), (*kept, bias), strict=True):
                weight.copy_(copy_)
    assert not any(torch.equal(one, other) for one, other in [(both, alone[0]), (both, alone[1]), (alone[0], alone[1])])
    kernels.enable(torch.tensor([True, False]))
    batch = small.batch()
    domain = small.model.domain_of(batch)[:, 0]
    now = scores(small.model, small)["predict"]
    assert torch.equal(now[domain == 1], base[domain == 1])
    torch.testing.assert_close(now[domain == 0], both[domain == 0])


def test_the_loss_reaches_the_kernels_of_the_first_place_through_the_second(tiny_path):
    small = build_small_iak("DeepFM", tiny_path, kernel_args={"layer": TWO, "stochastic": False})
    shake(small.model)
    small.model.train()
    batch = small.batch()
    weight = small.model.banks[0].places[0].output_bias
    found = small.model.losses(batch)
    (gradient,) = torch.autograd.grad(found.matching, weight)
    step = 1e-2
    for domain, column in ((0, 0), (1, 3)):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[domain, column] += sign * step
                values.append(small.model.losses(batch).matching.item())
                weight[domain, column] -= sign * step
        difference = (values[0] - values[1]) / (2 * step)
        assert difference == pytest.approx(gradient[domain, column].item(), rel=0.05, abs=1e-5)


def test_two_places_share_a_budget(tiny_path):
    small = build_small_iak("DeepFM", tiny_path, kernel_args={"layer": TWO, "budget": 0.02})
    whole = sum(weight.numel() for weight in small.plug.base.parameters())
    assert all(bank.trained_per_domain() <= 0.01 * whole for bank in small.model.banks[0].places)


@pytest.mark.parametrize("layer", [[], ["mlp_layers", "mlp_layers"]])
def test_places_are_named_once(layer, tiny_path):
    with pytest.raises(ConfigError, match="kernel_args: layer: got .*, expected one layer, or several different ones"):
        build_small_iak("DeepFM", tiny_path, kernel_args={"layer": layer})


@pytest.mark.parametrize(
    ("model", "layer", "message"),
    [
        ("DeepFM", "mlp_layer", "no sub-module 'mlp_layer'"),
        ("DeepFM", "method:nothing", "no method 'nothing'"),
        ("DeepFM", "input:a b", "must be NAME, input:NAME or method:NAME"),
        ("SASRec", "trm_encoder", "returns list"),
        ("SASRec", "item_embedding", "several vectors per row|as first dimension|runs 2 times"),
        ("BPR", "loss", r"tensor of shape \[\]"),
        ("LightGCN", "user_embedding", "runs 0 times"),
        ("DeepFM", "method:concat_embed_input_fields", "several vectors per row"),
    ],
)
def test_places_that_cannot_be(model, layer, message, tiny_path):
    with pytest.raises(ConfigError, match=message):
        build_small_iak(model, tiny_path, kernel_args={"layer": layer})


def test_budget_sets_the_sizes(tiny_path):
    small = build_small_iak("DeepFM", tiny_path, kernel_args={"budget": 0.008})
    whole = sum(weight.numel() for weight in small.plug.base.parameters())
    assert 0.004 * whole < small.model.banks[0].trained_per_domain() <= 0.008 * whole
    with pytest.raises(ConfigError, match="too small for any kernel"):
        build_small_iak("DeepFM", tiny_path, kernel_args={"budget": 1e-5})
    with pytest.raises(ConfigError, match="either a budget or sizes"):
        build_small_iak("DeepFM", tiny_path, kernel_args={"budget": 0.1, "code_size": 4})
