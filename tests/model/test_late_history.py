"""History mode `late`: equal to one masked pass, frozen below, adapted above."""

from dataclasses import replace

import pytest
import torch

from recbole_recfound.adapter import plain_weights, without_adapter
from recbole_recfound.backbone import decode, decoder_of, first_layers
from recbole_recfound.errors import ConfigError
from recbole_recfound.model import parts
from recbole_recfound.model.trained import trained_parameters
from tests.reference.late_history import user_states
from tests.small_model import build_small, perturb

LATE = {"history": "late", "tower_args": {"user_layers": 2}}


def _ready(small_run, **changes):
    small = build_small(small_run | LATE | {"tasks": ["U2I"]} | changes)
    perturb(small.model, std=0.2)
    small.model.refresh_items()
    small.model.eval()
    return small


def _histories(small, count=3):
    """Return the item ids of some users, whose lengths differ."""
    rows = sorted((small.splits.known_at_test.of(user) for user in range(1, 40)), key=len)
    return [row[:8] for row in (rows[0], rows[len(rows) // 2], rows[-1])][:count]


def _padded(rows):
    items = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    for number, row in enumerate(rows):
        items[number, : len(row)] = torch.from_numpy(row)
    return items


def _texts(small, row):
    return [small.model.parts.item_tokens[item].tolist() for item in row]


@pytest.mark.parametrize("adapter", ["tmole", "lora"])
def test_equals_one_pass_with_masks_and_so_do_gradients(small_run, adapter):
    small = _ready(small_run, adapter=adapter)
    model, rows = small.model, _histories(small)
    items = _padded(rows)
    part = small.loader.probe_batch("U2I").parts[0]
    part = replace(part, items=items, targets=items)
    generator = torch.Generator().manual_seed(5)

    def gradients(states):
        model.zero_grad()
        (states * torch.randn(states.shape, generator=generator.manual_seed(5))).sum(1).mean().backward()
        return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}

    found = model.history.states(model, model.table()[0], part, part.items)
    expected = torch.cat([user_states(model, _texts(small, row)) for row in rows])
    assert found.shape == expected.shape == (sum(map(len, rows)), 32)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    theirs, ours = gradients(expected), gradients(found)
    assert {name for name in ours if "lora_" in name} and set(ours) == set(theirs)
    for name, gradient in ours.items():
        assert (gradient - theirs[name]).abs().max() <= 1e-5, name
        assert gradient.norm() > 1e-3, name


@torch.no_grad()
def test_the_adapter_runs_above_and_not_below(small_run):
    """What an adapter does in a layer that never runs with it must not be trained, counted or lied about."""
    small = _ready(small_run)
    model, (row, *_) = small.model, _histories(small)
    items, lengths = torch.from_numpy(row)[None], torch.tensor([len(row)])
    before = model.user_vectors(items, lengths)
    trained = {name for name in trained_parameters(model) if ".layers." in name}
    assert trained and {name.split(".layers.")[1][0] for name in trained} == {"1", "2"}
    for layer, changes in ((0, False), (1, True), (2, True)):
        named = model.backbone.named_parameters()
        weights = [weight for name, weight in named if f".layers.{layer}." in name and "lora_B" in name]
        assert weights
        kept = [weight.clone() for weight in weights]
        for weight in weights:
            weight += 0.3
        assert torch.equal(model.user_vectors(items, lengths), before) != changes
        for weight, old in zip(weights, kept, strict=True):
            weight.copy_(old)


def test_histories_alone_train_the_adapter_above_alone(small_run, tmp_path):
    """Without other tasks the layers below run in every step and have nothing to learn."""
    small = build_small(small_run | LATE, tasks=["U2I"], max_steps=2)
    before = {name: weight.clone() for name, weight in small.model.named_parameters()}
    small.trainer(tmp_path).fit(small.loader, small.splits.valid_data, verbose=False)
    moved = {name for name, weight in small.model.named_parameters() if not torch.equal(weight, before[name])}
    assert {name.split(".layers.")[1][0] for name in moved if ".layers." in name} == {"1", "2"}
    assert {name.partition(".")[0] for name in moved} == {"backbone", "user_tower", "item_table", "recent_items"}


def test_other_tasks_train_the_adapter_below_and_drop_no_state(small_run, tmp_path):
    small = build_small(small_run | LATE, tasks=["U2I", "I2I", "SR"], max_steps=3)
    layers = {name.split(".layers.")[1][0] for name in trained_parameters(small.model) if ".layers." in name}
    assert layers == {"0", "1", "2"}
    perturb(small.model)
    before = {name: weight.clone() for name, weight in small.model.named_parameters()}
    small.trainer(tmp_path).fit(small.loader, small.splits.valid_data, verbose=False)
    moved = {name for name, weight in small.model.named_parameters() if not torch.equal(weight, before[name])}
    assert any(".layers.0." in name for name in moved) and any(".layers.2." in name for name in moved)
    cache = small.model.history._cache
    assert cache.misses == len(cache) <= small.model.n_items and cache.hits > cache.misses
    # The states are those of the plain backbone, whatever has been learned and whatever mode the model is in.
    model = small.model.train()
    texts = _texts(small, _histories(small)[0])
    decoder = first_layers(decoder_of(model.backbone.get_base_model()), 1)
    for text, found in zip(texts, cache.get([tuple(text) for text in texts]), strict=True):
        with without_adapter(model.backbone), torch.no_grad():
            expected = decode(decoder, decoder.embed_tokens(torch.tensor([text])))[0, -1:]
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_a_changed_text_changes_its_own_state_alone(small_run):
    small = _ready(small_run)
    model, rows = small.model, _histories(small)
    items, lengths = _padded(rows), torch.tensor([len(row) for row in rows])
    changed = rows[-1][-1]
    others = [number for number, row in enumerate(rows) if changed not in row]
    assert others
    before = model.user_vectors(items, lengths)
    states = {text: state for text, state in model.history._cache._known.items()}
    source = model.history.source
    index = source.item_ids.index_of_id[changed]
    sentences = source.texts.sentences
    flat = sentences.flat.copy()
    flat[sentences.offsets[index]] += 1
    model.history.source = replace(
        source, texts=replace(source.texts, sentences=type(sentences)(flat, sentences.offsets))
    )
    after = model.user_vectors(items, lengths)
    assert len(model.history._cache) == len(states) + 1
    assert all(torch.equal(model.history._cache._known[text], state) for text, state in states.items())
    assert all(torch.equal(after[number], before[number]) for number in others)
    assert not torch.allclose(after[-1], before[-1], atol=1e-4)


def test_layers_that_read_a_history_are_the_last_ones(small_run):
    small = _ready(small_run, tower_args={"user_layers": 1})
    decoder = decoder_of(small.model.backbone.get_base_model())
    (_, view), *_ = small.model.user_tower._backbone
    assert list(view.layers) == list(decoder.layers)[-1:] and view.norm is decoder.norm
    deep = build_small(small_run | LATE, tower_args={"user_layers": 9}).model
    assert (small.model.user_depth, deep.user_depth) == (1, 2), "a layer is left below"


def test_control_and_several_processes_that_do_not_fit(small_run, monkeypatch):
    with pytest.raises(ConfigError, match="no_body bypasses the LLM"):
        build_small(small_run | LATE, control="no_body")
    monkeypatch.setattr(parts, "shards", lambda: True)
    with pytest.raises(ConfigError, match="history: late encodes texts when they are needed"):
        build_small(small_run | LATE)


def test_weights_of_the_backbone_are_told_from_the_adapters(small_run):
    small = build_small(small_run | LATE)
    decoder = decoder_of(small.model.backbone.get_base_model())
    plain = {id(weight) for weight in plain_weights(decoder.layers)}
    for name, weight in decoder.layers.named_parameters():
        assert (id(weight) in plain) == ("tmole" not in name and "task_table" not in name), name
