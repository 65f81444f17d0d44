"""Two towers: vectors, loss and scores by slow definitions, and what a score may depend on."""

import math

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.utils import init_seed

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.behaviour.dataset import ROW
from recbole_recfound.data.behaviour.segments import PAST
from recbole_recfound.data.split.protocol import build_splits
from recbole_recfound.model.m6rec import M6Rec
from recbole_recfound.model.recent_items import PACE
from recbole_recfound.model.trained import trained_parameters
from tests.small_reading import randomise


@pytest.fixture(scope="module")
def built(tiny_path, tiny_backbone):
    """Return a maker of models with random trained parts, and their data."""

    def make(**changed):
        settings = {
            "data_path": str(tiny_path),
            "backbone": str(tiny_backbone),
            "use_gpu": False,
            "show_progress": False,
            "m6rec_task": ["retrieval"],
            "late_args": {"joint_layers": 2},
            "text_args": {"behaviours": 4, "max_tokens": 12},
            "option_args": {"prompts": 3, "bottleneck": 8},
            "retrieval_args": {"width": 6, "targets": 2, "temperature": 0.2},
            "MAX_ITEM_LIST_LENGTH": 10,
            **changed,
        }
        config = Config("M6Rec", "tiny", None, settings)
        init_seed(1, True)
        splits = build_splits(config)
        model = M6Rec(config, splits.train_set)
        randomise(model, spread=0.1)
        return model.eval(), splits

    return make


def score_by_hand(model, source, item):
    """Return the score of one user and one item, each read alone."""

    def normal_of(item):
        return (model.item_states(np.array([item]))[0] - model.center[3]) / model.spread[3]

    def vector_of(item):
        vector = model.of_item(normal_of(item))
        return vector / vector.norm()

    user = model.user_states([source])[0]
    user = model.of_user(((user - model.center[:3]) / model.spread[:3]).flatten())
    user = user / user.norm()
    items = model.texts.items.tolist()
    past = [items.index(segment) for segment in source.segments[source.kinds == PAST].tolist()]
    share, kept = (
        torch.nn.functional.softplus(PACE * model.recent.weights[0]),
        (PACE * model.recent.weights[1]).sigmoid(),
    )
    if past:
        recent = sum(kept**age * vector_of(item) for age, item in enumerate(reversed(past)))
        user = user + share * recent / recent.norm()
    cosine = (user @ vector_of(item)) / user.norm()
    return (cosine / model.towers.temperature + model.appeal(normal_of(item))[0]).item()


@torch.no_grad()
def test_scores_of_all_items_by_hand(built):
    model, splits = built()
    batch, *_ = next(iter(splits.test_data))
    scores = model.full_sort_predict(batch).view(len(batch), -1)
    for row in (0, 7, len(batch) - 1):
        user = int(batch[model.user_field][row])
        source = model.texts.source_of_choices(user, splits.known_at_test.of(user)[-10:])
        for item in (1, 5, 30):
            assert scores[row, item].item() == pytest.approx(score_by_hand(model, source, item), abs=1e-4)
    pairs = Interaction({**batch.interaction, model.item_field: batch[model.user_field] % 7 + 1})
    expected = scores[torch.arange(len(batch)), pairs[model.item_field]]
    torch.testing.assert_close(model.predict(pairs), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_states_of_a_user(built):
    """The mean and the latest of the chosen items' states, whatever else is in the batch."""
    model, _ = built()
    sources = [model.texts.source_of_choices(user, np.arange(1, 2 + user)) for user in range(5)]
    together = model.user_states(sources)
    for row, source in enumerate(sources):
        torch.testing.assert_close(model.user_states([source])[0], together[row], atol=1e-5, rtol=1e-5)
        assert (source.kinds == PAST).sum() == min(row + 1, 4)
    one = model.user_states(sources[:1])[0]
    torch.testing.assert_close(one[1], one[2])  # of a single item
    other = model.user_states([model.texts.source_of_choices(4, np.array([9, 2, 3, 4, 5]))])[0]
    torch.testing.assert_close(other, together[4], atol=1e-5, rtol=1e-5)  # four behaviours are read
    none = model.user_states([model.texts.source_of_choices(1, np.array([], dtype=np.int64))])[0]
    assert torch.isfinite(none).all() and (none[1:] == 0).all()


def test_the_loss_by_its_definition(built):
    model, splits = built()
    examples = model.examples(splits.train_set.inter_feat)[:6]
    loss = model.loss_of(examples)
    expected = []
    with torch.no_grad():
        for example in examples:
            source, chosen = example.pack.source, set(example.pack.source.segments.tolist())
            scores = {int(item): score_by_hand(model, source, int(item)) for item in model.chosen}
            rest = [
                score
                for item, score in scores.items()
                if int(model.texts.items[item]) not in chosen and item not in example.answers
            ]
            for item in example.answers:
                own = scores[int(item)]
                expected.append(math.log(sum(math.exp(score - own) for score in [own, *rest])))
    assert loss.item() == pytest.approx(np.mean(expected), abs=1e-4)


@torch.no_grad()
def test_an_item_with_the_text_of_a_target_is_no_negative(built):
    """It has the target's own vector, and would be one half of the softmax whatever is learned."""
    model, splits = built()
    examples = model.examples(splits.train_set.inter_feat)[:6]
    targets = {int(item) for example in examples for item in example.answers}
    sources = {segment for example in examples for segment in example.pack.source.segments.tolist()}
    twin = next(item for item in model.chosen if item not in targets and model.texts.items[item] not in sources)
    own = examples[:1]
    model.texts.items[twin] = model.texts.items[own[0].answers[0]]
    with_twin = model.loss_of(own).item()
    model.chosen = model.chosen[model.chosen != twin]
    assert model.loss_of(own).item() == pytest.approx(with_twin, abs=1e-5)


def test_examples_are_the_next_items_of_training_rows(built):
    model, splits = built()
    rows = splits.train_set.inter_feat
    training = {user: splits.known_at_valid.of(user).tolist() for user in range(splits.train_set.user_num)}
    first, second = model.examples(rows, 0), model.examples(rows, 1)
    found = set()
    for user, items in training.items():
        texts = [int(model.texts.items[item]) for item in items]
        for place in range(1, len(items)):
            source = int(model.texts.profiles[user]), *texts[max(0, place - 4) : place]
            found.add((source, frozenset(items[place : place + 2])))
    for example in first:
        assert (tuple(example.pack.source.segments.tolist()), frozenset(example.answers.tolist())) in found
    assert sum(map(len, first)) > 0.8 * (sum(map(len, training.values())) - len(training))
    assert [len(each.pack.source.segments) for each in first] != [len(each.pack.source.segments) for each in second]


def test_held_out_rows_teach_nothing(built):
    """Planted leak: the items of validation and test rows are turned round."""
    model, splits = built()
    rows = splits.train_set.inter_feat
    expected = [each.answers.tolist() for each in model.examples(rows)]
    chosen = model.chosen.copy()
    model.log.items[model.known_rows :] = model.log.items[model.known_rows :][::-1].copy()
    assert [each.answers.tolist() for each in model.examples(rows)] == expected
    assert np.array_equal(chosen, np.unique(model.log.items[rows[ROW].numpy()]))


def test_cold_items_are_no_negatives(built):
    model, splits = built(cold_items=0.2)
    assert not np.isin(splits.dataset.cold, model.chosen).any()
    assert not np.isin(splits.dataset.cold_valid, model.chosen).any()
    assert model.item_table().shape == (splits.dataset.item_num, 7)


def test_only_its_own_parts_are_trained(built):
    model, splits = built()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    trained = trained_parameters(model)
    model.train().calculate_loss(splits.train_set.inter_feat).backward()
    torch.optim.SGD(trained.values(), lr=0.1).step()
    changed = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert changed == {name for name, weight in trained.items() if weight.grad is not None and weight.grad.any()}
    assert {"of_user.weight", "of_item.weight", "appeal.weight", "recent.weights"} <= changed
    assert all(
        "option_" in name or "of_" in name or name in ("kinds.weight", "appeal.weight", "recent.weights")
        for name in changed
    )


@torch.no_grad()
def check_likeness(model):
    """The first start ranks by the likeness of texts: a user of one item is nearest to it."""
    items = model.chosen[:20]
    users = model.user_vectors([model.texts.source_of_choices(0, np.array([item])) for item in items])
    scores = users @ model.item_vectors(items).T
    texts = model.texts.items[items]
    best = scores.argmax(1).numpy()
    assert (texts[best] == texts).mean() > 4 / len(items)  # four times chance, with adapters at random
    assert (model.appeal.weight == 0).all()


def test_the_fitted_start_lowers_the_loss(built):
    model, splits = built()
    examples = model.examples(splits.train_set.inter_feat)
    with torch.no_grad():
        before = model.loss_of(examples).item()
    starts = model.prepare([examples[:40], examples[40:]], seconds=60.0)
    assert next(starts) == len(model.chosen)
    check_likeness(model)
    assert list(starts) == [sum(map(len, examples))]
    with torch.no_grad():
        assert model.loss_of(examples).item() < before - 0.3
    states = model.item_states(model.chosen)
    torch.testing.assert_close(states.mean(0), model.center[3], atol=1e-4, rtol=1e-4)
