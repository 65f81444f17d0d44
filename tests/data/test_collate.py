"""Batches: masks, labels, positions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_recfound.data import IGNORED, Collator
from recbole_recfound.data.collate import group_by_length
from recbole_recfound.data.history import HistorySource
from recbole_recfound.data.item_ids import ItemIds
from recbole_recfound.data.padding import WIDTH_STEP
from recbole_recfound.data.task import TASKS, GenerativeExample, PairExample, SequenceExample
from recbole_recfound.data.text import ItemTexts, PromptTemplate
from recbole_recfound.model.history import HISTORIES
from tests.data.task.hand_made import catalogue
from tests.tiny_backbone import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
SLOTS = {
    "U2I": ("history",),
    "Q2I": ("query",),
    "I2I": ("item",),
    "SR": ("history", "candidates"),
    "SA": ("history", "item"),
}
TEXTS = {
    "U2I": "Seen: {{ history }}",
    "Q2I": "Query: {{ query }}",
    "I2I": "{{ item }}",
    "SR": "{{ history }}|{{ candidates }}",
    "SA": "{{ history }}|{{ item }}",
}
# RecBole numbers items in its own order: catalogue index 0 is item 5, ..., and it does not know index 5.
ITEM_IDS = ItemIds.from_indices(np.array([-1, 4, 3, 2, 1, 0]), 6)
IID = ITEM_IDS.id_of_index


def _collator(
    mode="item", max_item_tokens=30, max_history=3, max_history_tokens=1000, max_prompt_tokens=120, max_pass_tokens=1000
):
    templates = {
        name: PromptTemplate(name, TEXTS[name], SLOTS[name], TOKENIZER, name in ("SR", "SA"), uncut=TASKS[name].uncut)
        for name in TEXTS
    }
    texts = ItemTexts.of(catalogue(), TOKENIZER, max_item_tokens)
    source = HistorySource(texts, ITEM_IDS, templates["U2I"], max_prompt_tokens, 5, max_history, max_history_tokens)
    return Collator(texts, TOKENIZER, templates, HISTORIES[mode](source), max_prompt_tokens, max_pass_tokens)


def _draws(count):
    return [np.random.default_rng(seed) for seed in range(count)]


def test_sequences_are_shifted_by_one_and_numbered_as_recbole_does():
    (batch,) = _collator()(
        ["U2I", "U2I"], [SequenceExample("a", (0, 1, 2, 3)), SequenceExample("b", (4, 0, 1))], _draws(2)
    )
    assert batch.items.tolist() == [[5, 4, 3], [1, 5, 0]]
    assert batch.targets.tolist() == [[4, 3, 2], [5, 4, 0]]
    assert batch.token_ids is None


def test_long_histories_show_a_window():
    items = tuple([0, 1, 2, 3, 4] * 4)
    seen = set()
    for seed in range(40):
        (batch,) = _collator()(["U2I"], [SequenceExample("a", items)], [np.random.default_rng(seed)])
        row = (*batch.items[0].tolist(), batch.targets[0, -1].item())
        starts = [start for start in range(len(items) - 3) if tuple(IID[list(items[start : start + 4])]) == row]
        assert starts and batch.items.shape == (1, 3)
        seen.add(starts[0])
    assert len(seen) == 5


def test_text_of_a_history_and_where_its_titles_end():
    batch = _collator("positions").history.collate(["U2I"] * 2, [(2, 0, 1), (4, 0)])
    assert TOKENIZER.decode(batch.token_ids[0][batch.token_mask[0] == 1]) == "Heat\nAlien\n"
    assert TOKENIZER.decode(batch.token_ids[1][batch.token_mask[1] == 1]) == "Big\n"
    assert batch.ends.tolist() == [[4, 10], [3, 0]]
    for row, place in ((0, 4), (0, 10), (1, 3)):
        assert TOKENIZER.decode([batch.token_ids[row, place]]) == "\n"


def _sentence(batch, row):
    return TOKENIZER.decode(batch.item_ids[row][batch.item_mask[row] == 1])


@pytest.mark.parametrize("mode", ["item", "prompt"])
def test_held_out_items_are_the_only_targets(mode):
    histories, answers = [np.array([0, 1, 2]), np.array([3])], np.array([4, 0])
    batch = _collator(mode).held_out(["U2I", "U2I"], histories, answers)
    if HISTORIES[mode].sequences:
        assert batch.items.tolist() == [[5, 4, 3], [2, 0, 0]]
        assert batch.targets.tolist() == [[0, 0, 1], [5, 0, 0]]
    else:
        assert [_sentence(batch, place) for place in batch.positive] == [
            catalogue().sentence_of(4),
            catalogue().sentence_of(0),
        ]


def test_pairs_encode_each_item_of_a_task_once_and_mask_false_negatives():
    examples = [
        PairExample("a film", 0, (1,), known=(0, 2)),
        PairExample("fish", 2, (1,)),
        PairExample(3, 0, (2, 1), known=(3,)),
    ]
    batch = _collator().pairs(["Q2I", "Q2I", "I2I"], examples)
    keys = [("Q2I", 0), ("Q2I", 1), ("Q2I", 2), ("I2I", 0), ("I2I", 2), ("I2I", 1)]
    assert batch.item_tasks == [task for task, _ in keys]
    assert batch.positive.tolist() == [0, 2, 3]
    assert batch.allowed.int().tolist() == [[1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]
    for row, (_, item) in enumerate(keys):
        assert _sentence(batch, row) == catalogue().sentence_of(item) and torch.equal(batch.item_mask, batch.item_text)


def test_queries_pool_data_and_not_instructions():
    batch = _collator().pairs(["Q2I", "U2I"], [PairExample("fish", 5, ()), PairExample((0, 4), 2, ())])
    whole = [TOKENIZER.decode(ids[mask == 1]) for ids, mask in zip(batch.query_ids, batch.query_mask, strict=True)]
    pooled = [TOKENIZER.decode(ids[text == 1]) for ids, text in zip(batch.query_ids, batch.query_text, strict=True)]
    assert whole == ["Query: fish", "Seen: Alien\nBig"] and pooled == ["fish", "Alien\nBig"]


def test_only_the_answer_and_its_end_are_learned():
    examples = [
        GenerativeExample({"history": ("titles", (0, 1)), "candidates": ("lettered", (2, 4))}, "B"),
        GenerativeExample({"history": ("rated", ((0, "5"),)), "item": ("sentence", 2)}, "a long answer"),
    ]
    (batch,) = _collator().generative(["SA", "SR"], examples[::-1])
    end = TOKENIZER.eos_token_id
    assert end == TOKENIZER.pad_token_id
    # Longest first.
    expected = {"SA": ("Alien: 5|Heat, year: 1995", "a long answer"), "SR": ("Alien\nAliens|A. Heat\nB. Big\n", "B")}
    assert sorted(batch.tasks) == ["SA", "SR"]
    for row, (prompt, answer) in enumerate(expected[task] for task in batch.tasks):
        turn = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
        real = batch.input_ids[row][batch.attention_mask[row] == 1]
        assert TOKENIZER.decode(real) == turn + answer + "<|im_end|>"
        learned = batch.labels[row] != IGNORED
        assert batch.labels[row][learned].tolist() == [*TOKENIZER(answer)["input_ids"], end]
        assert torch.equal(batch.labels[row][learned], batch.input_ids[row][learned])
        # The end of the user's turn and the padding are the same token and are not learned.
        assert learned.nonzero().ravel().tolist() == list(range(len(real) - len(answer) - 1, len(real)))


def test_long_history_is_cut_and_the_answer_stays():
    short = _collator(max_prompt_tokens=60)
    example = GenerativeExample({"history": ("titles", (3, 5, 0, 1, 2)), "item": ("sentence", 4)}, "yes")
    (batch,) = short.generative(["SA"], [example])
    text = TOKENIZER.decode(batch.input_ids[0][batch.attention_mask[0].bool()])
    assert "|Big, year: 1988" in text and text.endswith("yes<|im_end|>")
    assert "\nAlien\nAliens\nHeat|" in text.replace("user\n", "\n") and "fish" not in text
    assert len(short.prompt("SA", example)) <= 60


@given(st.lists(st.integers(1, 300), max_size=30), st.integers(1, 2000))
def test_rows_are_grouped_by_length(lengths, most):
    groups = group_by_length(lengths, most)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        longest = max(lengths[index] for index in group)
        assert min(lengths[index] for index in group) >= 0.75 * longest
        assert len(group) * longest <= most or len(group) == 1


def test_answers_are_never_cut():
    example = GenerativeExample({"history": ("titles", (3, 5)), "item": ("sentence", 4)}, "long answer " * 60)
    (batch,) = _collator(max_prompt_tokens=60, max_pass_tokens=1).generative(["SA"], [example])
    learned = batch.labels[0][batch.labels[0] != IGNORED]
    assert TOKENIZER.decode(learned[:-1]) == "long answer " * 60 and learned[-1] == TOKENIZER.eos_token_id


def test_prompts_of_different_length_are_several_batches():
    long = GenerativeExample({"history": ("titles", (0, 1, 2, 3, 5) * 2), "item": ("sentence", 4)}, "yes")
    short = GenerativeExample({"history": ("titles", ()), "item": ("sentence", 4)}, "no")
    batches = _collator(max_prompt_tokens=400).generative(["SA"] * 3, [short, long, short])
    assert [len(batch) for batch in batches] == [1, 2]
    assert "fish" in TOKENIZER.decode(batches[0].input_ids[0])
    assert batches[1].attention_mask.sum() > 0.5 * batches[1].attention_mask.numel()
    one_each = _collator(max_prompt_tokens=400, max_pass_tokens=1).generative(["SA"] * 3, [short, long, short])
    assert [len(batch) for batch in one_each] == [1, 1, 1]


def test_widths_are_shared_by_many_batches():
    for size in (1, 7, 19):
        example = GenerativeExample({"history": ("titles", ()), "item": ("sentence", 4)}, "y" * size)
        (batch,) = _collator().generative(["SA"], [example])
        assert batch.input_ids.shape == batch.labels.shape == batch.attention_mask.shape
        assert (
            batch.input_ids.shape[1] % WIDTH_STEP == 0
            and batch.attention_mask.sum() > batch.input_ids.shape[1] - WIDTH_STEP
        )


def test_long_candidates_are_shortened_alike_and_leave_room_for_the_history():
    short = _collator(max_prompt_tokens=110)
    example = GenerativeExample({"history": ("titles", (0, 2)), "candidates": ("lettered", (1, 3, 5, 4, 0, 2))}, "A")
    text = TOKENIZER.decode(short.prompt("SR", example))
    # 55 tokens for candidates, of which six lines take 4 each: 5 are left for every title.
    assert "A. Alien\nB. Heat \nC. Big f\nD. Big\nE. Alien\nF. Heat\n" in text
    assert "Alien\nHeat|" in text and len(short.prompt("SR", example)) <= 110
    assert "A. Aliens\nB. Heat wave\n" in TOKENIZER.decode(_collator(max_prompt_tokens=300).prompt("SR", example))


def test_of_a_history_too_long_for_the_backbone_the_oldest_titles_go():
    whole = _collator("positions", max_history=50)
    row = [0, 1, 2, 3, 5, 0, 1, 2]
    size = {item: len(whole.texts.titles[item]) + 1 for item in row}
    for limit in (1, size[1] + size[0], sum(size[item] for item in row[:-1]), 10**6):
        short = _collator("positions", max_history=50, max_history_tokens=limit)
        kept = short.history.visible(row[:-1])
        assert list(kept) == row[:-1][-len(kept) :] and kept
        assert sum(size[item] for item in kept) <= limit or len(kept) == 1
        assert len(kept) == 7 or sum(size[item] for item in row[:-1][-len(kept) - 1 :]) > limit
        batch = short.history.collate(["U2I"], [row])
        assert batch.items.shape[1] == len(kept) and batch.token_mask.sum() == sum(size[item] for item in kept)
        assert batch.targets[0].tolist() == [int(IID[item]) for item in row[-len(kept) :]]
        probe = short.held_out(["U2I"], [np.array(row[:-1])], np.array([2]))
        assert probe.targets[0, len(kept) - 1] == IID[2] and (probe.targets > 0).sum() == 1
