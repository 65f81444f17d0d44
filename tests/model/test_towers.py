"""Towers and item table: depth, causality, padding, centring."""

import numpy as np
import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaModel

from recbole_recfound.adapter import build_adapter, without_adapter
from recbole_recfound.backbone import decode, first_layers, last_layers, load_backbone, mean_pool
from recbole_recfound.backbone.depth import check_division
from recbole_recfound.data.task import task_table
from recbole_recfound.data.text import TokenTable
from recbole_recfound.errors import BackboneError
from recbole_recfound.model.factors import CollaborativeFactors, collaborative_factors
from recbole_recfound.model.item_table import ItemTable
from recbole_recfound.model.small_reader import SmallReader
from recbole_recfound.model.text_tower import TextTower
from recbole_recfound.model.user_tower import UserTower
from tests.small_model import perturb

HOST = torch.get_default_device()
IDS = torch.arange(5, 17).unsqueeze(0)


@pytest.fixture
def backbone(tiny_backbone):
    return load_backbone(str(tiny_backbone), HOST)


@pytest.fixture
def adapted(backbone):
    adapted = build_adapter(backbone.model, "tmole", task_table(), r=2)
    perturb(adapted, std=0.2)
    return adapted.eval()


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_first_layers_are_the_models_own(backbone, depth):
    decoder = backbone.model.model
    view = first_layers(decoder, depth)
    hidden = decoder(IDS, output_hidden_states=True, use_cache=False).hidden_states
    torch.testing.assert_close(decode(view, view.embed_tokens(IDS)), hidden[depth])
    shared = dict(decoder.named_parameters())
    assert all(weight is shared[name] for name, weight in view.named_parameters())
    assert len(decoder.layers) == 3 and len(view.layers) == depth


@pytest.mark.parametrize("depth", [1, 2])
def test_first_and_last_layers_are_all_layers(backbone, depth):
    decoder = backbone.model.model
    lower, upper = first_layers(decoder, depth), last_layers(decoder, 3 - depth)
    divided = decode(upper, decode(lower, decoder.embed_tokens(IDS)))
    torch.testing.assert_close(divided, decode(decoder, decoder.embed_tokens(IDS)))
    assert list(upper.layers) == list(decoder.layers)[depth:] and last_layers(decoder, 3) is decoder
    check_division(decoder, depth, IDS)


def test_last_layers_keep_their_kind_of_attention():
    """Gemma 2 sees a window in every other layer, by a list in its configuration."""
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "head_dim": 8}
    torch.manual_seed(0)
    config = Gemma2Config(vocab_size=20, num_hidden_layers=4, num_key_value_heads=1, sliding_window=2, **sizes)
    decoder = Gemma2ForCausalLM(config).eval().model
    upper = last_layers(decoder, 3)
    assert upper.config.layer_types == config.layer_types[1:] != config.layer_types[:3]
    check_division(decoder, 1, IDS)
    upper.config.layer_types = config.layer_types[:3]
    states = decode(first_layers(decoder, 1), decoder.embed_tokens(IDS))
    assert not torch.allclose(decode(upper, states), decode(last_layers(decoder, 3), states), atol=1e-3)


def test_a_decoder_that_scales_its_input_is_not_divided(backbone, monkeypatch):
    forward = LlamaModel.forward

    def scaled(self, inputs_embeds=None, **options):
        return forward(self, inputs_embeds=3 * inputs_embeds, **options)

    monkeypatch.setattr(LlamaModel, "forward", scaled)
    with pytest.raises(BackboneError, match="a llama model cannot be divided"):
        check_division(backbone.model.model, 1, IDS)


def test_a_view_sees_adapters_put_in_later(backbone):
    view = first_layers(backbone.model.model, 1)
    before = decode(view, view.embed_tokens(IDS))
    adapted = build_adapter(backbone.model, "lora", r=2)
    perturb(adapted, std=0.5)
    assert not torch.equal(decode(view, view.embed_tokens(IDS)), before)


@pytest.mark.parametrize("depth", [0, 4])
def test_depth_out_of_range(backbone, depth):
    with pytest.raises(ValueError, match="between 1 and 3"):
        first_layers(backbone.model.model, depth)


def test_prompts_see_the_whole_row(backbone):
    decoder = backbone.model.model
    changed = IDS.clone()
    changed[0, -1] = 30
    for causal in (True, False):
        first, second = (decode(decoder, decoder.embed_tokens(ids), causal=causal)[0, 0] for ids in (IDS, changed))
        assert torch.equal(first, second) == causal


@pytest.mark.parametrize(("depth", "small"), [(0, False), (2, False), (3, False), (0, True)])
def test_user_tower_is_causal_and_padding_is_harmless(adapted, depth, small):
    tower = UserTower(adapted, depth, small=SmallReader(32, 6, 0.2) if small else None).eval()
    tokens = torch.randn(20, 32)

    def read(*rows):
        items = torch.tensor(rows)
        return tower.over_items(tokens, items, items > 0)

    states = read([3, 4, 5, 6, 7])
    torch.testing.assert_close(states.norm(dim=-1), torch.ones(5))
    later = read([3, 4, 5, 9, 10])
    torch.testing.assert_close(later[:3], states[:3])
    assert not torch.allclose(later[3:], states[3:], atol=1e-3)
    another_past = read([9, 4, 5, 6, 7])
    assert torch.allclose(another_past[4], states[4], atol=1e-6) == (depth == 0 and not small), (
        "only the bypass forgets the past"
    )
    padded = read([3, 4, 5, 0, 0, 0], [8, 3, 4, 5, 6, 7])
    torch.testing.assert_close(padded[:3], states[:3], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("depth", "small"), [(0, False), (2, False), (3, False), (0, True)])
def test_packed_histories_equal_single_ones_with_their_gradients(adapted, depth, small):
    tower = UserTower(adapted, depth, 0.0, SmallReader(32, 100, 0.0) if small else None)
    sizes = [1, 100, 3, 64, 7, 7, 30, 2]
    items = torch.zeros(len(sizes), 100, dtype=torch.long)
    for row, size in enumerate(sizes):
        items[row, :size] = torch.randint(1, 50, (size,))
    wanted = (items > 0) & (torch.rand(items.shape) < 0.7)
    tokens = torch.randn(50, 32, requires_grad=True)
    together = tower.over_items(tokens, items, wanted)
    alone = torch.cat(
        [tower.over_items(tokens, items[[row], :size], wanted[[row], :size]) for row, size in enumerate(sizes)]
    )
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    weight = torch.randn(together.shape)
    ours, theirs = (torch.autograd.grad((states * weight).sum(), tokens)[0] for states in (together, alone))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("depth", "small"), [(2, False), (0, True)])
def test_a_changed_history_leaves_the_others_as_they_are(adapted, depth, small):
    tower = UserTower(adapted, depth, small=SmallReader(32, 6, 0.2) if small else None).eval()
    tokens, rows = torch.randn(20, 32), torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0], [9, 1, 2, 0]])
    states = tower.over_items(tokens, rows, rows > 0)
    rows[1, :2] = torch.tensor([11, 12])
    changed = tower.over_items(tokens, rows, rows > 0)
    assert [torch.equal(a, b) for a, b in zip(states, changed, strict=True)] == [True] * 4 + [False] * 2 + [True] * 3


def test_a_user_without_history_has_a_state(adapted):
    tower, tokens = UserTower(adapted, 2).eval(), torch.randn(20, 32)
    items = torch.tensor([[0, 0], [3, 4]])
    states = tower.over_items(tokens, items, torch.tensor([[True, False], [False, True]]))
    torch.testing.assert_close(states[1], tower.over_items(tokens, items[1:], items[1:] > 0)[1])
    assert states[0].isfinite().all()


def test_user_tower_over_text_is_causal_and_padding_is_harmless(adapted):
    tower = UserTower(adapted, 3).eval()
    ids, ends = torch.arange(10, 22).unsqueeze(0), torch.tensor([[3, 7, 11]])
    every = torch.ones(1, 3, dtype=torch.bool)
    states = tower.over_text(ids, torch.ones_like(ids), ends, every)
    changed = ids.clone()
    changed[0, 8:] = 40
    later = tower.over_text(changed, torch.ones_like(ids), ends, every)
    torch.testing.assert_close(later[:2], states[:2])
    assert not torch.allclose(later[2], states[2], atol=1e-3)
    wide, mask = torch.full((2, 15), 50), torch.zeros(2, 15, dtype=torch.long)
    wide[0, :12], mask[0, :12], mask[1] = ids[0], 1, 1
    padded = tower.over_text(wide, mask, torch.cat([ends, ends]), every.repeat(2, 1))
    torch.testing.assert_close(padded[:3], states, atol=1e-5, rtol=1e-4)


def test_text_tower_gives_every_row_its_route(adapted):
    tower = TextTower(adapted, 2)
    ids, ones = IDS.repeat(3, 1), torch.ones(3, IDS.shape[1], dtype=torch.long)
    mixed = tower.encode(ids, ones, ones, ["I2I", "Q2I", "I2I"])
    for row, task in enumerate(["I2I", "Q2I", "I2I"]):
        torch.testing.assert_close(
            mixed[row : row + 1], tower.encode(ids[:1], ones[:1], ones[:1], task), atol=1e-4, rtol=1e-3
        )
    assert not torch.allclose(mixed[0], mixed[1], atol=1e-2)


def test_a_table_is_encoded_as_its_rows_one_by_one(adapted):
    rows = [[7, 8, 9], [], [10, 11], [12] * 9]
    tokens = [token for row in rows for token in row]
    table = TokenTable(torch.tensor(tokens).int().numpy(), torch.tensor([0, 3, 3, 5, 14]).numpy())
    tower = TextTower(adapted, 2)
    vectors = tower.encode_table(table, "I2I", 2, HOST, batch_tokens=8)
    assert vectors[1].abs().sum() == 0
    for index in (0, 2, 3):
        ids = torch.tensor([rows[index]])
        one = tower.encode(ids, torch.ones_like(ids), torch.ones_like(ids), "I2I")
        torch.testing.assert_close(vectors[index], one[0], atol=1e-5, rtol=1e-4)
    plain = tower.encode_table(table, None, 2, HOST)
    assert not torch.allclose(plain[0], vectors[0], atol=1e-4)


def test_a_frozen_adapter_stays_frozen(backbone):
    adapted = build_adapter(backbone.model, "lora", r=2).requires_grad_(False)
    with without_adapter(adapted):
        pass
    assert not any(weight.requires_grad for weight in adapted.parameters())


def test_pooling_averages_text_tokens_only():
    states = torch.tensor([[[1.0], [2.0], [9.0]], [[4.0], [5.0], [6.0]]])
    assert mean_pool(states, torch.tensor([[1, 1, 0], [0, 0, 0]])).tolist() == [[1.5], [0.0]]


def test_item_table_whitens_and_normalises():
    table = ItemTable(50, 6, 8, token_norm=3.0, dropout=0.5).eval()
    features = torch.randn(50, 6) * 4 + 10
    table.set_features(features)
    torch.testing.assert_close(table.features[1:].mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(table.features[1:].square().mean(), torch.ones(()))
    assert table.features[0].abs().sum() == 0
    tokens, vectors = table()
    torch.testing.assert_close(tokens.norm(dim=-1), torch.full((50,), 3.0))
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(50))


def test_item_table_reads_how_far_training_moved_the_features_from_zero_on():
    table = ItemTable(50, 6, 8, token_norm=3.0, moved_size=4).eval()
    features = torch.randn(50, 6) * 4 + 10
    table.set_features(features)
    before, plain = table(), table.features.clone()
    assert not plain[:, 6:].any()
    table.set_features(features, 3 * features[:, :4] + 2)
    assert torch.allclose(table.features, plain, atol=1e-5)  # all items moved alike
    table.set_features(features, features[:, [1, 0, 2, 3]])
    standard = (features - features[1:].mean(0)) / features[1:].std(0)
    torch.testing.assert_close(table.features[1:, 6], (standard[:, 1] - standard[:, 0])[1:])
    assert table.features[0].abs().sum() == 0
    for old, new in zip(before, table(), strict=True):
        assert torch.equal(old, new)  # nothing jumps
    (gradient,) = torch.autograd.grad(table()[1][:, 0].sum(), table.text.weight)
    assert gradient[:, 6:].any()  # and the change is learned from


def test_some_items_of_a_batch_have_text_alone():
    """Neither id nor factors, as an item that is added later; others and all items in eval have everything."""
    table = ItemTable(400, 6, 8, 1.0, dropout=0.0, factor_size=3, text_alone=0.4, id_scale=0.5)
    features = torch.randn(400, 6)
    table.set_features(features)
    table.set_factors(factors_of(torch.randn(400, 3)))
    vectors, alone = table()[1], table.vectors_of(features)
    whole = table.eval()()[1]
    is_alone, is_whole = ((vectors - one).abs().amax(1)[1:] < 1e-5 for one in (alone, whole))
    assert (is_alone ^ is_whole).all() and 0.3 < is_alone.float().mean() < 0.5
    assert not torch.allclose(whole[1:], alone[1:], atol=0.1)
    assert torch.equal(ItemTable(5, 3, 4, 1.0, use_text=False, text_alone=0.4)()[1].isnan(), torch.zeros(5, 4) > 0)


def test_a_training_batch_leaves_its_own_users_out_of_the_factors():
    """Neither its soft tokens nor its targets hold what it is to predict; in eval all users are in."""
    table = ItemTable(6, 4, 8, 1.0, dropout=0.0, factor_size=2)
    table.set_features(torch.randn(6, 4))
    factors = collaborative_factors(np.array([1, 1, 2, 2, 3]), np.array([1, 2, 2, 3, 4]), 6, 2)
    table.set_factors(factors)
    rows = torch.tensor([[1, 2, 0]])
    whole, without = table(), table(rows)
    changed = [(one != other).any(1).nonzero().flatten().tolist() for one, other in zip(whole, without, strict=True)]
    assert changed == [[1, 2], [1, 2]]
    table.set_factors(factors_of(factors.without(rows)))
    for one, other in zip(table(), without, strict=True):
        torch.testing.assert_close(one, other)
    table.set_factors(factors)
    table.eval()
    assert all(torch.equal(one, other) for one, other in zip(table(), table(rows), strict=True))


def factors_of(values):
    """Factors of which nothing but the values is known."""
    return CollaborativeFactors(values, torch.zeros(values.shape[1]), torch.zeros(len(values)))


def test_item_table_of_text_or_ids_alone():
    assert {name for name, _ in ItemTable(5, 3, 4, 1.0, use_text=False).named_parameters()} == {"ids.weight"}
    assert not any("ids" in name for name, _ in ItemTable(5, 3, 4, 1.0, use_id=False).named_parameters())
    with pytest.raises(ValueError, match="its text, its id"):
        ItemTable(5, 3, 4, 1.0, use_text=False, use_id=False)
