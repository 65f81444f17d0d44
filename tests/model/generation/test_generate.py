"""Generation on a random backbone: routes, batches, constraints, and nothing of the model's own settings."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Gemma2Config, GenerationConfig, GraniteConfig

from recbole_recfound.adapter import build_adapter, routing
from recbole_recfound.backbone import head_of, load_backbone
from recbole_recfound.data.task import task_table
from recbole_recfound.data.text import plain_tokens
from recbole_recfound.model.generation import Generator, HoldToTrie, TokenTrie, trie_of
from tests.reference.constrained import allowed_tokens, constrained_greedy
from tests.small_model import perturb
from tests.tiny_backbone import write_tiny_backbone

HOST = torch.device("cpu")
PROMPTS = ["Which one?", "A", "Yes or no, that is the question here", "Tell me more", "x" * 40]
TASKS = ["SR", "SA", "PM", "IP", "SR"]
TEXTS = ["Alien", "Aliens", "Heat", "Heat", "Big fish", "B"]


@pytest.fixture(scope="module")
def backbone(tiny_backbone):
    return load_backbone(str(tiny_backbone), HOST)


@pytest.fixture(scope="module", params=["tmole", "lora"])
def adapted(request, tiny_backbone):
    torch.manual_seed(0)
    model = build_adapter(load_backbone(str(tiny_backbone), HOST).model, request.param, task_table(), r=2)
    perturb(model, std=0.5)
    return model


def _prompts(tokenizer):
    return [np.asarray(row) for row in plain_tokens(PROMPTS, tokenizer)]


def _generator(adapted, tokenizer, **options):
    return Generator(adapted, tokenizer, HOST, **options)


def test_a_batch_writes_what_single_prompts_write(adapted, backbone):
    prompts = _prompts(backbone.tokenizer)
    together = _generator(adapted, backbone.tokenizer).tokens(prompts, TASKS, 8)
    alone = [
        _generator(adapted, backbone.tokenizer, batch_rows=1).tokens([p], [t], 8)[0]
        for p, t in zip(prompts, TASKS, strict=True)
    ]
    assert together == alone and any(together)


def test_the_head_reads_states_in_one_piece(adapted, backbone):
    """A slice of all states would be multiplied row by row, each with a copy of the head's weights (on CPUs)."""
    seen = []
    hook = head_of(adapted.get_base_model()).register_forward_hook(
        lambda head, states, out: seen.append((tuple(states[0].shape), states[0].is_contiguous()))
    )
    with hook:
        _generator(adapted, backbone.tokenizer).tokens(_prompts(backbone.tokenizer), TASKS, 3)
    assert len(seen) > 1 and {shape[:2] for shape, _ in seen} == {(5, 1)} and all(packed for _, packed in seen)


def test_the_route_of_the_task_reaches_generation(tiny_backbone, backbone):
    torch.manual_seed(0)
    model = build_adapter(load_backbone(str(tiny_backbone), HOST).model, "tmole", task_table(), r=2)
    perturb(model, std=2.0)
    prompt = _prompts(backbone.tokenizer)[0]
    written = {
        task: tuple(_generator(model, backbone.tokenizer).tokens([prompt], [task], 12)[0])
        for task in ("SR", "PM", "IP", "AG")
    }
    assert len(set(written.values())) > 1


@pytest.mark.parametrize("beams", [1, 3])
def test_the_models_own_settings_have_no_effect(adapted, backbone, beams):
    prompts = _prompts(backbone.tokenizer)
    generator = _generator(adapted, backbone.tokenizer, beams=beams)
    before = generator.tokens(prompts, TASKS, 10)
    own = adapted.generation_config
    noisy = GenerationConfig(
        do_sample=True,
        temperature=3.0,
        top_k=3,
        repetition_penalty=5.0,
        no_repeat_ngram_size=1,
        max_length=30,
        min_length=25,
        bad_words_ids=[[5], [6]],
        suppress_tokens=list(range(10, 200)),
        begin_suppress_tokens=[7],
        forced_eos_token_id=9,
        num_beams=2,
        sequence_bias=[[[8], 9.0]],
        exponential_decay_length_penalty=[1, 2.0],
    )
    try:
        adapted.generation_config = adapted.get_base_model().generation_config = noisy
        assert generator.tokens(prompts, TASKS, 10) == before
        assert adapted.generation_config is noisy and adapted.get_base_model().generation_config is noisy
    finally:
        adapted.generation_config = adapted.get_base_model().generation_config = own


@pytest.mark.parametrize("beams", [1, 2, 4])
def test_held_generation_writes_only_texts_that_exist(adapted, backbone, beams):
    trie = trie_of(TEXTS, backbone.tokenizer, HOST)
    answers = _generator(adapted, backbone.tokenizer, beams=beams).answers(_prompts(backbone.tokenizer), TASKS, 3, trie)
    assert len(answers) == len(PROMPTS) and set(answers) <= set(TEXTS)


def test_held_generation_equals_the_slow_reference(adapted, backbone):
    tokenizer = backbone.tokenizer
    texts = plain_tokens(TEXTS, tokenizer)
    written = _generator(adapted, tokenizer).tokens(_prompts(tokenizer), TASKS, 3, trie_of(TEXTS, tokenizer, HOST))
    for prompt, task, tokens in zip(_prompts(tokenizer), TASKS, written, strict=True):
        assert tokens == constrained_greedy(adapted, prompt, task, texts, tokenizer.eos_token_id)


def test_many_beams_find_the_likeliest_text(adapted, backbone):
    """However long it is: with as many beams as texts none is lost."""
    tokenizer = backbone.tokenizer
    texts = ["a", "bb", "ccc", "Heat", "the longest text of all of these"]
    trie, ids = (
        trie_of(texts, tokenizer, HOST),
        [[*row, tokenizer.eos_token_id] for row in plain_tokens(texts, tokenizer)],
    )
    written = _generator(adapted, tokenizer, beams=8).answers(_prompts(tokenizer), TASKS, 3, trie)
    for prompt, task, text in zip(_prompts(tokenizer), TASKS, written, strict=True):
        likelihoods = []
        for row in ids:
            with torch.no_grad(), routing(adapted, task):
                logits = adapted.get_base_model()(torch.tensor([[*prompt, *row]])).logits[0].log_softmax(-1)
            likelihoods.append(sum(logits[len(prompt) - 1 + place, token].item() for place, token in enumerate(row)))
        assert text == texts[max(range(len(texts)), key=likelihoods.__getitem__)]


sequences = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=5), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(texts=sequences, data=st.data())
def test_the_mask_is_the_references(texts, data):
    end, vocabulary, prompt = 6, 7, 2
    trie = TokenTrie(texts, end, HOST)
    length = data.draw(st.integers(0, 6))
    rows = [data.draw(st.sampled_from(texts))[:length] for _ in range(4)]
    rows = [[*row, *[end] * (length - len(row))] for row in rows]
    ids = torch.tensor([[1] * prompt + row for row in rows], dtype=torch.long)
    scores = HoldToTrie(trie, prompt)(ids, torch.zeros(len(rows), vocabulary))
    for row, score in zip(rows, scores, strict=True):
        assert {token for token in range(vocabulary) if score[token] == 0} == allowed_tokens(row, texts, end)


def test_a_trie_needs_texts():
    for texts in ([], [[1], []]):
        with pytest.raises(ValueError, match="at least one text"):
            TokenTrie(texts, 0, HOST)


def test_margins_are_differences_of_log_probabilities(adapted, backbone):
    prompts = _prompts(backbone.tokenizer)
    first, second = (plain_tokens([word], backbone.tokenizer)[0][0] for word in ("yes", "no"))
    found = _generator(adapted, backbone.tokenizer, batch_rows=2).margins(prompts, TASKS, first, second)
    for margin, prompt, task in zip(found, prompts, TASKS, strict=True):
        with torch.no_grad():
            logits = (
                adapted(input_ids=torch.from_numpy(prompt).unsqueeze(0), tmole_tasks=[task])
                .logits[0, -1]
                .log_softmax(-1)
            )
        assert margin == pytest.approx((logits[first] - logits[second]).item(), abs=1e-4)
    assert len({round(float(margin), 5) for margin in found}) == len(prompts)


@pytest.mark.parametrize(
    ("family", "settings"),
    [(GraniteConfig, {"logits_scaling": 8.0}), (Gemma2Config, {"head_dim": 8, "final_logit_softcapping": 0.2})],
)
def test_margins_are_those_of_the_models_own_logits(tmp_path, family, settings):
    lm = load_backbone(str(write_tiny_backbone(tmp_path, family=family, **settings)), HOST)
    head_of(lm.model).weight.mul_(20)
    model = build_adapter(lm.model, "tmole", task_table(), r=2)
    prompts = _prompts(lm.tokenizer)
    found = _generator(model, lm.tokenizer).margins(prompts, TASKS, 70, 71)
    for margin, prompt, task in zip(found, prompts, TASKS, strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.from_numpy(prompt)[None], tmole_tasks=[task]).logits[0, -1]
        assert margin == pytest.approx((logits[70] - logits[71]).item(), abs=1e-4)
    assert np.abs(found).max() > 0.01


def test_margins_are_not_rounded_with_the_weights(tiny_backbone, backbone):
    """A threshold must be able to tell apart answers whose logits are the same in bf16."""
    torch.manual_seed(0)
    model = build_adapter(load_backbone(str(tiny_backbone), HOST, torch.bfloat16).model, "tmole", task_table(), r=2)
    perturb(model, std=0.5)
    with torch.autocast("cpu", torch.bfloat16):
        found = _generator(model, backbone.tokenizer).margins(_prompts(backbone.tokenizer), TASKS, 70, 71)
    assert np.abs(found - torch.from_numpy(found).bfloat16().float().numpy()).max() > 0
