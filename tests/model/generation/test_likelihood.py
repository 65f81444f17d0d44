"""Likelihoods of titles against one forward pass per text, and the ranking they make."""

import numpy as np
import pytest
import torch

from recbole_recfound.adapter import routing
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.generation import GenerativeRanking, log_likelihoods
from tests.small_model import build_small, perturb

TITLED = {"tasks": ["U2I", "SR"], "task_args": {"SR": {"form": "title"}}}


def _reference(model, prompt, text, task, end):
    """Log-probability of one text, token by token, without a cache."""
    ids = torch.tensor([[*prompt, *text, end]])
    with torch.no_grad(), routing(model, task):
        scores = model.get_base_model()(ids).logits[0].log_softmax(-1)
    return sum(scores[at - 1, ids[0, at]].item() for at in range(len(prompt), ids.shape[1]))


@pytest.mark.parametrize("adapter", ["tmole", "lora"])
def test_likelihoods_equal_one_pass_per_text(small_run, adapter):
    small = build_small(small_run, **TITLED, adapter=adapter)
    perturb(small.model, std=0.5)
    model = small.model.eval()
    end = model.parts.data.collator.tokenizer.eos_token_id
    prompt, texts = (
        np.array([7, 8, 9, 10]),
        [np.array([5]), np.array([20, 21, 22]), np.array([5, 30]), np.array([20, 21])],
    )
    found = log_likelihoods(model.backbone, prompt, texts, "SR", end)
    expected = [_reference(model.backbone, prompt, text, "SR", end) for text in texts]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-4)


def _batch(small):
    interaction, *_ = next(iter(small.splits.test_data))
    return interaction[:3]


def test_a_small_catalogue_is_ranked_whole(small_run):
    small = build_small(small_run, **TITLED)
    perturb(small.model, std=0.5)
    model = small.model.eval()
    model.refresh_items()
    batch = _batch(small)
    plain = model.full_sort_predict(batch).reshape(len(batch), -1)
    model.rerank = GenerativeRanking(model, model.parts.data.collator, model.n_items)
    scores = model.full_sort_predict(batch).reshape(len(batch), -1)
    assert torch.equal(scores[:, 0], plain[:, 0]) and (scores[:, 1:] > 2).all() and (scores[:, 1:] <= 3).all()
    # The best item is the one whose title is likeliest by the reference.
    data, history = model.parts.data, batch[model.history_field][0, : batch[model.length_field][0]].tolist()
    shown = data.item_ids.to_catalogue(history[-data.tasks["SR"].options.history_titles :])
    from recbole_recfound.data.task import GenerativeExample

    prompt = data.collator.prompt("SR", GenerativeExample({"history": ("titles", tuple(shown.tolist()))}, ""))
    end = data.collator.tokenizer.eos_token_id
    some = scores[0, 1:].argsort(descending=True)[[0, 5, 50]] + 1
    likely = [_reference(model.backbone, prompt, model.rerank.titles[item], "SR", end) for item in some.tolist()]
    assert likely == sorted(likely, reverse=True)


def test_a_likelihood_that_is_no_number_comes_last(small_run, monkeypatch):
    small = build_small(small_run, **TITLED)
    model = small.model.eval()
    model.refresh_items()
    batch = _batch(small)

    def likelihoods(backbone, prompt, texts, task, end):
        return torch.where(torch.arange(len(texts)) == 3, torch.nan, -torch.arange(float(len(texts))))

    monkeypatch.setattr("recbole_recfound.model.generation.ranking.log_likelihoods", likelihoods)
    model.rerank = GenerativeRanking(model, model.parts.data.collator, model.n_items)
    scores = model.full_sort_predict(batch).reshape(len(batch), -1)[0]
    assert (scores[1:] > 2).all() and torch.equal(scores[1:].topk(3).indices, torch.tensor([0, 1, 2]))
    assert scores[1:].argmin() == 3


def test_of_a_large_catalogue_only_the_best_are_ranked_anew(small_run):
    small = build_small(small_run, **TITLED)
    model = small.model.eval()
    model.refresh_items()
    batch = _batch(small)
    plain = model.full_sort_predict(batch).reshape(len(batch), -1)
    model.rerank = GenerativeRanking(model, model.parts.data.collator, 5)
    scores = model.full_sort_predict(batch).reshape(len(batch), -1)
    for before, after, history in zip(plain, scores, batch[model.history_field], strict=True):
        # What the evaluation masks uses up no candidate.
        left = before.clone()
        left[[0, *history.tolist()]] = -torch.inf
        best = set(left.topk(5).indices.tolist())
        assert set((after > 2).nonzero().squeeze(1).tolist()) == best
        others = [item for item in range(len(before)) if item not in best]
        assert torch.equal(before[others], after[others])


def test_a_ranking_by_titles_needs_titles(small_run):
    with pytest.raises(ConfigError, match="test_args: rank_titles .*form: title"):
        build_small(small_run, test_args={"rank_titles": 5})
