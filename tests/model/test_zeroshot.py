"""Ranking without training: scores by hand, and which rows a history has."""

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.utils import init_seed

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.behaviour.dataset import ROW
from recbole_recfound.data.split.protocol import build_splits, held_out
from recbole_recfound.data.text import plain_tokens
from recbole_recfound.data.text.catalogue import Catalogue
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.m6rec import M6Rec
from recbole_recfound.model.reading import zeroshot
from recbole_recfound.model.reading.zeroshot import GHOST_TOKEN, NEXT


@pytest.fixture(scope="module")
def built(tiny_path, tiny_backbone):
    settings = {
        "data_path": str(tiny_path),
        "backbone": str(tiny_backbone),
        "use_gpu": False,
        "show_progress": False,
        "m6rec_task": ["zeroshot"],
        "text_args": {"behaviours": 3, "max_tokens": 12},
        "test_users": 6,
    }
    config = Config("M6Rec", "tiny", None, settings)
    init_seed(1, True)
    splits = build_splits(config)
    return M6Rec(config, splits.train_set).eval(), splits


def likelihoods(model, prompt, item):
    """Return the log-likelihood of each token of a title, in a pass of its own."""
    before = plain_tokens([prompt], model.lm.tokenizer)[0]
    title = plain_tokens([f" {model.titles[item]}"], model.lm.tokenizer)[0][:12]
    with torch.no_grad():
        logits = model.lm.model(input_ids=torch.tensor([[*before, *title]])).logits[0].double().log_softmax(-1)
    return np.array([logits[len(before) - 1 + place, token].item() for place, token in enumerate(title)])


def test_the_four_scores_by_hand(built):
    model, splits = built
    history, items = splits.known_at_test.of(3), np.array([4, 9, 4, 20])
    prompt = model.prompt(3, history)
    assert all(model.titles[item] in prompt for item in history[-3:]) and model.titles[history[-4]] not in prompt
    expected = {"mean": [], "sum": [], "ghost": [], "pmi": []}
    for item in items:
        own, alone = likelihoods(model, prompt, item), likelihoods(model, f"{NEXT}\n-", item)
        rest = own[np.exp(own) <= GHOST_TOKEN]
        expected["mean"].append(own.mean())
        expected["sum"].append(own.sum())
        expected["ghost"].append(rest.mean() if len(rest) else 0.0)
        expected["pmi"].append(own.mean() - alone.mean())
    for score, values in expected.items():
        model.score = score
        np.testing.assert_allclose(model.scores(prompt, items), values, atol=1e-4)


def test_a_history_is_the_rows_before_a_row(built):
    """At the test it has the validation item, and nothing later: a planted change of later rows changes no score."""
    model, splits = built
    model.score = "mean"
    user, _ = held_out(splits.test_set)[0]
    for part, known in ((splits.valid_set, splits.known_at_valid), (splits.test_set, splits.known_at_test)):
        row = part.inter_feat[torch.from_numpy(np.flatnonzero(part.inter_feat[model.user_field].numpy() == user))]
        prompt = model.prompt(int(user), known.of(user))
        expected = model.scores(prompt, row[model.item_field].numpy())
        model._read_titles()
        places = row[ROW].item()
        kept = model.log.items.copy()
        model.log.items[places:] = model.log.items[places:][::-1].copy()
        np.testing.assert_allclose(model.predict(row).numpy(), expected, rtol=1e-5)
        model.log.items[:] = kept


def test_pairs_are_parts_of_the_whole_ranking(built):
    model, _ = built
    model.score = "sum"
    names, length = model.history_fields
    rows = Interaction(
        {
            model.user_field: torch.tensor([2, 0]),
            names: torch.tensor([[3, 4], [5, 0]]),
            length: torch.tensor([2, 1]),
        }
    )
    whole = model.full_sort_predict(rows).view(2, -1)
    rows.update(Interaction({model.item_field: torch.tensor([7, 8])}))
    torch.testing.assert_close(model.predict(rows), whole[[0, 1], [7, 8]])


@pytest.mark.parametrize(("room", "passes"), [(10_000, 3), (1, 4), (0, 5)])
def test_all_scores_share_their_passes(built, monkeypatch, room, passes):
    """Where not all prompts fit, the first ones stay, and that of no user always; the scores are the same."""
    model, _ = built
    calls, real = [], zeroshot.token_log_likelihoods
    monkeypatch.setattr(zeroshot, "KEPT_BYTES", room)
    monkeypatch.setattr(zeroshot, "token_log_likelihoods", lambda *given: calls.append(1) or real(*given))
    model._read_titles()
    prompts, items = [model.prompt(user, np.array([3, 4])) for user in (1, 2)], np.arange(1, 6)
    scores = []
    for score in ("mean", "pmi"):
        model.score = score
        scores += [model.scores(prompt, items) for prompt in prompts]
    assert len(calls) == passes
    model._read_titles()
    np.testing.assert_allclose(model.scores(prompts[1], np.arange(3, 6)), scores[3][2:], atol=1e-5)
    np.testing.assert_allclose(model.scores(prompts[1], items), scores[3], atol=1e-5)


def test_the_sample_of_users(built):
    _, splits = built
    users = held_out(splits.test_set)[:, 0]
    assert len(users) == 6 and set(held_out(splits.valid_set)[:, 0]) <= set(users)
    other = Config("BPR", "tiny", None, {"data_path": splits.config["data_path"].rsplit("/", 1)[0], "test_users": 6})
    assert np.array_equal(held_out(build_splits(other).test_set), held_out(splits.test_set))


def test_an_added_item_is_scored_by_its_title(built):
    model, _ = built
    size = len(model.titles)
    model.score = "sum"
    prompt = model.prompt(0, np.array([3, 4]))
    first = model.scores(prompt, np.array([5, 6]))
    try:
        new = Catalogue(["a", "b"], ["title"], [{"title": model.titles[6]}, {"title": "A Close Shave"}], 2)
        model.add_items([size, size + 1], new)
        found = model.scores(prompt, np.array([5, size, size + 1]))
        np.testing.assert_allclose(found[:2], first, rtol=1e-5)
        expected = likelihoods(model, prompt, size + 1).sum()
        assert found[2] == pytest.approx(expected, abs=1e-3)
        assert "- A Close Shave" in model.prompt(0, np.array([3, size + 1]))
    finally:
        del model.titles[-2:]
        model._read_titles()


def test_a_prompt_keeps_the_last_items_that_fit_into_the_context(built, monkeypatch):
    model, splits = built
    history = splits.known_at_test.of(3)
    whole = model.prompt(3, history)
    longest = max(len(plain_tokens([f" {title}"], model.lm.tokenizer)[0][:12]) for title in model.titles)
    length = len(plain_tokens([whole], model.lm.tokenizer)[0]) + longest
    try:
        monkeypatch.setattr(model.lm.model.config, "max_position_embeddings", length)
        model._read_titles()
        assert model.prompt(3, history) == whole
        monkeypatch.setattr(model.lm.model.config, "max_position_embeddings", length - 1)
        model._read_titles()
        assert model.prompt(3, history) == whole.replace(f"- {model.titles[history[-3]]}\n", "", 1)
        monkeypatch.undo()
        monkeypatch.setattr(model.lm.model.config, "sliding_window", length - 1, raising=False)
        model._read_titles()
        assert model.prompt(3, history) == whole.replace(f"- {model.titles[history[-3]]}\n", "", 1)
        monkeypatch.setattr(model.lm.model.config, "max_position_embeddings", longest + 5)
        model._read_titles()
        with pytest.raises(ConfigError, match=r"^text_args: user_fields: a user's profile"):
            model.prompt(3, history)
    finally:
        monkeypatch.undo()
        model._read_titles()
