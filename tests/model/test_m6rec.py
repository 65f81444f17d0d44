"""M6-Rec's joint pass: equal to one pass over all layers, and independent of how rows are put together."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.utils import init_seed
from tokenizers import Tokenizer, models, normalizers
from transformers import (
    AutoConfig,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.masking_utils import create_causal_mask

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.behaviour import Pack
from recbole_recfound.data.behaviour.dataset import ROW
from recbole_recfound.data.split.protocol import build_splits
from recbole_recfound.errors import BackboneError
from recbole_recfound.model import late
from recbole_recfound.model.late import JointBatch
from recbole_recfound.model.m6rec import M6Rec
from recbole_recfound.model.probe import fit_probe
from recbole_recfound.model.reading import ctr
from recbole_recfound.model.trained import trained_parameters
from tests.reference.late_pass import one_pass, prefix_mask
from tests.small_reading import randomise
from tests.tiny_backbone import CHAT_TEMPLATE, tiny_tokenizer, write_tiny_backbone

KINDS = {
    "gemma2": (Gemma2Config, Gemma2ForCausalLM),
    "gemma3_text": (Gemma3TextConfig, Gemma3ForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
}


@pytest.fixture(scope="module")
def built(tiny_path, tiny_backbone):
    """Return a maker of models, with random adapters and segment vectors, and their data."""

    def make(tuning=("option-adapter",), backbone=tiny_backbone, **late):
        settings = {
            "data_path": str(tiny_path),
            "backbone": str(backbone),
            "use_gpu": False,
            "show_progress": False,
            "threshold": {"rating": 4},
            "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "none", "mode": "labeled"},
            "late_args": {"joint_layers": 2, "targets": 5, **late},
            "text_args": {"behaviours": 3, "max_tokens": 12},
            "option_args": {"prompts": 4, "bottleneck": 8, "tuning": list(tuning)},
            "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
        }
        config = Config("M6Rec", "tiny", None, settings)
        init_seed(1, True)
        splits = build_splits(config)
        model = M6Rec(config, splits.train_set)
        randomise(model)
        return model.eval(), splits

    return make


def tokenise(model):
    return lambda text: model.cache.tokenizer(text, add_special_tokens=False)["input_ids"][: model.cache.max_tokens]


def packs_of(model, count=6):
    """Return the last packs with several targets."""
    return [example.pack for example in examples_of(model) if len(example) > 2][-count:]


def examples_of(model):
    """Return all training examples, with labels at random."""
    rows = Interaction({ROW: torch.arange(model.known_rows), model.label_field: torch.arange(model.known_rows) % 2})
    return model.examples(rows)


@pytest.mark.skipif(
    "block_sequence_ids" not in inspect.signature(create_causal_mask).parameters, reason="of a later transformers"
)
@pytest.mark.parametrize("part_of", [[0, 0, 0, 1, 1], [0, 1, 1, 1], [1, 1]])
def test_the_block_mask_is_that_of_transformers(tiny_backbone, part_of):
    """Its own function makes the prefix mask that the one-pass reference has, which late interaction equals."""
    config = AutoConfig.from_pretrained(tiny_backbone, attn_implementation="eager")
    blocks = torch.tensor([[0 if part == 0 else -1 for part in part_of]])
    vectors = torch.zeros(1, len(part_of), config.hidden_size)
    theirs = create_causal_mask(config, vectors, None, None, block_sequence_ids=blocks)
    assert torch.equal(theirs == 0, prefix_mask(part_of))


@pytest.mark.parametrize(("states", "pooling"), [("all", "last"), ("all", "mean"), ("last", "mean")])
@torch.no_grad()
def test_equals_one_pass_through_all_layers(built, states, pooling):
    model, _ = built(states=states, pooling=pooling)
    packs = packs_of(model, 2)
    expected = torch.cat([one_pass(model, pack, tokenise(model), states, pooling) for pack in packs])
    torch.testing.assert_close(model(packs), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_any_split_into_batches_and_packs_gives_the_same_scores(built):
    model, _ = built()
    packs = packs_of(model)
    together = model(packs)
    torch.testing.assert_close(torch.cat([model([pack]) for pack in packs]), together, atol=1e-5, rtol=1e-5)
    single = [Pack(pack.source, target[None], pack.target_kinds) for pack in packs for target in pack.targets]
    torch.testing.assert_close(model(single), together, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("states", "pooling"), [("all", "last"), ("last", "mean")])
@torch.no_grad()
def test_candidates_may_run_in_several_passes(built, monkeypatch, states, pooling):
    model, _ = built(states=states, pooling=pooling)
    packs = packs_of(model)
    together = model(packs)
    monkeypatch.setattr(late, "PASS_STATES", 1)
    torch.testing.assert_close(model(packs), together, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_source_never_sees_the_candidates(built):
    """One source, computed once, serves all its candidates: a target depends on no other target."""
    model, _ = built()
    pack = packs_of(model, 1)[0]
    expected = model([pack])
    other = pack.targets.copy()
    other[1:] = other[1:, ::-1]
    changed = model([Pack(pack.source, other, pack.target_kinds)])
    torch.testing.assert_close(changed[0], expected[0], atol=1e-6, rtol=1e-6)
    assert not torch.allclose(changed[1:], expected[1:], atol=1e-4)


def test_layout_of_sources_and_targets(built):
    model, _ = built(states="all")
    packs = packs_of(model, 2)
    batch = JointBatch.of(packs, model.texts.table.texts, model.cache)
    texts = model.texts.table.texts

    def check(rows, row, segments, kinds):
        states = torch.cat(model.cache.get([texts[segment] for segment in segments]))
        counts = [len(own) for own in model.cache.get([texts[segment] for segment in segments])]
        assert torch.equal(rows.states[row, : len(states)], states)
        assert rows.kinds[row, : len(states)].tolist() == np.repeat(kinds, counts).tolist()
        assert rows.lengths[row] == len(states) and not rows.mask[row, len(states) :].any()

    for number, pack in enumerate(packs):
        check(batch.sources, number, pack.source.segments, pack.source.kinds)
        for row, target in zip((batch.source_of == number).nonzero()[:, 0], pack.targets, strict=True):
            check(batch.targets, row, target, pack.target_kinds)


def test_a_score_depends_on_no_other_row(built):
    model, splits = built()
    rows = splits.test_set.inter_feat
    with torch.no_grad():
        whole = model.predict(rows)
        for start in range(0, len(rows), 7):
            part = rows[torch.arange(start, min(start + 7, len(rows)))]
            torch.testing.assert_close(model.predict(part), whole[start : start + 7], atol=1e-6, rtol=1e-5)


def test_held_out_values_change_no_score(built):
    """Planted leak: ratings and labels of validation and test rows are turned round."""
    model, splits = built()
    with torch.no_grad():
        expected = model.predict(splits.test_set.inter_feat)
        known = model.known_rows
        model.log.values[known:] = 1 - model.log.values[known:]
        model.log.items[known:] = model.log.items[known:][::-1].copy()
        assert torch.equal(model.predict(splits.test_set.inter_feat), expected)


def test_only_prompts_adapters_and_segment_vectors_are_trained(built):
    model, splits = built()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    trained = trained_parameters(model)
    assert all("option_" in name or name in ("kinds.weight", "readers") for name in trained)
    assert {name.split(".layers.")[1][0] for name in trained if ".layers." in name} == {"1", "2"}
    optimizer = torch.optim.SGD(trained.values(), lr=0.1)
    model.train().calculate_loss(splits.train_set.inter_feat[:40]).backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in trained.values())
    optimizer.step()
    changed = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert changed == set(trained)


@pytest.mark.parametrize(
    ("pooling", "tuning", "rounds"),
    [("mean", "option-adapter", 1), ("last", "option-adapter", 2), ("last", "adapter", 1)],
)
def test_a_fitted_classifier_gives_the_logits_of_the_probe(built, pooling, tuning, rounds):
    """Of a single state the last prompts are the whole classifier, the paper's form, and change the state they read."""
    model, _ = built(pooling=pooling, states="all", tuning=(tuning,))
    examples = examples_of(model)
    starts = model.prepare([[example] for example in examples], seconds=60.0)
    for _ in range(rounds):
        with torch.no_grad():
            states = model.pooled([example.pack for example in examples])
            probe = fit_probe(states.clone(), np.concatenate([example.answers for example in examples]))
            assert next(starts) == len(states)
            expected = (((states - probe.center) / probe.spread) * probe.weight).sum((1, 2))
            read = (states - model.center) / model.spread
            own = model.reader.options.classify(read.mean(1)).diff()[:, 0]
            if pooling == "mean":
                assert model.readers.abs().sum() > 0
                own = own + (read * model.readers).sum(2).mean(1) / model.width**0.5
        torch.testing.assert_close(own, expected, atol=3e-3, rtol=1e-3)
    assert not list(starts)
    assert (pooling == "last") == ("readers" not in trained_parameters(model))


def test_a_fixed_classifier_of_one_state_is_not_fitted(built):
    model, _ = built(tuning=("prompt",), pooling="last", states="all")
    assert not list(model.prepare([examples_of(model)], seconds=60.0))


@pytest.mark.parametrize(("wanted", "held"), [(10_000, 10_000), (23, 10_000), (10_000, 17), (10_000, 0), (0, 10_000)])
def test_the_classifier_is_fitted_on_no_more_rows_than_wanted_and_held_in_memory(built, monkeypatch, wanted, held):
    """The last batch is read whole."""
    model, _ = built()
    model.prompt = replace(model.prompt, probe_rows=wanted)
    monkeypatch.setattr(ctr, "PROBE_BYTES", held * 4 * model.readers.numel())
    batches = [[example] for example in examples_of(model)]
    read = np.cumsum([len(batch[0]) for batch in batches])
    most = min(wanted, held, read[-1])
    assert list(model.prepare(batches, seconds=60.0)) == ([int(read[read >= most][0])] if most else [])


def test_pairs_and_histories_can_be_scored(built):
    model, splits = built()
    user, item, names = splits.train_set.uid_field, splits.train_set.iid_field, model.history_fields
    test = splits.test_set.inter_feat
    pairs = Interaction({user: test[user], item: test[item]})
    with torch.no_grad():
        assert torch.equal(model.predict(pairs), model.predict(test[[*range(len(test))]]))
        unknown = Interaction(
            {
                user: torch.zeros(2, dtype=torch.int64),
                item: torch.tensor([3, 3]),
                names[0]: torch.tensor([[4, 5, 0], [6, 0, 0]]),
                names[1]: torch.tensor([2, 1]),
            }
        )
        scores = model.predict(unknown)
    assert scores[0] != scores[1] and ROW not in unknown


@pytest.mark.parametrize(
    ("tuning", "trained"),
    [
        ("option-adapter", {"prompts", "adapters"}),
        ("option", {"prompts"}),
        ("prompt", {"prompts"}),
        ("adapter", {"prompts", "adapters"}),
        ("lora", {"prompts", "lora"}),
        ("fine-tuning", {"prompts", "layers"}),
    ],
)
def test_what_each_tuning_trains(built, tuning, trained):
    model, splits = built(tuning=[tuning])
    rows = splits.train_set.inter_feat[:40]
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    below = model.cache.get(["Some text"])[0]
    weights = trained_parameters(model)
    model.train().calculate_loss(rows).backward()
    torch.optim.SGD([weight for weight in weights.values() if weight.grad is not None], lr=0.1).step()
    changed = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert changed <= set(weights)

    def kind(name):
        own = {
            "option_prompts": "prompts",
            "option_": "adapters",
            "lora_": "lora",
            ".layers.": "layers",
            "norm": "layers",
        }
        return next((what for part, what in own.items() if part in name), "")

    assert {kind(name) for name in changed} - {""} == trained
    assert torch.equal(model.cache.get(["Some text"])[0], below)  # nothing below the joint layers
    prompts = model.reader.options.prompts()
    fed = {"option-adapter": 4, "option": 4, "prompt": 4, "adapter": 0, "lora": 0, "fine-tuning": 0}[tuning]
    assert (len(prompts), model.reader.before[model.option_set]) == (max(fed, 2), fed)


def test_prompts_alone_classify_with_the_words_yes_and_no(built):
    """The classifier is no part of what is trained: other last prompts change the text before the source alone."""
    model, _ = built(tuning=["prompt"])
    states = torch.randn(3, model.width)
    with torch.no_grad():
        head = model.lm.model.get_output_embeddings().weight
        ids = [model.lm.tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in "ny"]
        expected = states @ torch.nn.functional.normalize(head[ids], dim=1).T / model.width**0.5
        torch.testing.assert_close(model._classify(states), expected)


def metaspace_backbone(folder, letters):
    """Save a random Llama whose tokenizer begins every word with the token of a blank; return its folder."""
    blank = "\u2581"
    vocabulary = {token: number for number, token in enumerate(["<unk>", "</s>", blank, *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", blank)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="</s>", unk_token="<unk>")
    fast.chat_template = CHAT_TEMPLATE
    write_tiny_backbone(folder)
    fast.save_pretrained(folder)
    return folder


def test_answers_are_classified_by_the_tokens_in_which_they_differ(built, tmp_path):
    model, _ = built(tuning=["prompt"], backbone=metaspace_backbone(tmp_path / "differ", "abcnoyes"))
    head = model.lm.model.get_output_embeddings().weight
    expected = head[model.lm.tokenizer.convert_tokens_to_ids(["n", "y"])].detach()
    torch.testing.assert_close(model.words, torch.nn.functional.normalize(expected, dim=1))
    with pytest.raises(BackboneError, match=r"^option_args: tuning: got prompt.*reads both alike"):
        built(tuning=["prompt"], backbone=metaspace_backbone(tmp_path / "alike", "abc"))


def backbone_of(folder, kind, **settings):
    """Save a random language model of a kind with the tokenizer of tests; return its folder."""
    config_class, model_class = KINDS[kind]
    tokenizer = tiny_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    torch.manual_seed(0)
    model_class(
        config_class(vocab_size=len(tokenizer), num_hidden_layers=3, **sizes, **ids, **settings)
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_backbones_whose_layers_need_more_are_refused(built, tmp_path, monkeypatch):
    """Gemma 3 has rotary embeddings for each kind of layer; a decoder that changes its input is simulated."""
    words = "model cannot be run layer by layer in transformers"
    with pytest.raises(BackboneError, match=f"^a gemma3_text {words}") as refused:
        built(backbone=backbone_of(tmp_path, "gemma3_text", head_dim=16))
    assert "\n" not in str(refused.value)
    whole = late.decode
    monkeypatch.setattr(late, "decode", lambda decoder, inputs: whole(decoder, inputs + inputs.roll(1, dims=1)))
    with pytest.raises(BackboneError, match=f"^a llama {words}"):
        built()


def test_a_window_may_not_be_shorter_than_what_is_read(built, tmp_path):
    """The last states of 7 segments of the source and of those of a target, behind 4 prompts."""
    window = {"use_sliding_window": True, "max_window_layers": 1}
    model, _ = built(states="last", backbone=backbone_of(tmp_path / "long", "qwen2", sliding_window=60, **window))
    assert model.longest <= 60
    for kind, settings in (("qwen2", window), ("mistral", {}), ("gemma2", {"head_dim": 16})):
        path = backbone_of(tmp_path / kind, kind, sliding_window=12, **settings)
        with pytest.raises(BackboneError, match=rf"^a {kind} model has layers that see the last 12 states alone"):
            built(states="last", backbone=path)
    for kind in ("qwen2", "mistral"):
        built(states="last", backbone=backbone_of(tmp_path / f"{kind}-none", kind, sliding_window=None))
