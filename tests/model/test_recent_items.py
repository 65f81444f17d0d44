"""Recent items: equal to a loop over positions, and what they are for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from recbole_recfound.errors import ConfigError
from recbole_recfound.model.recent_items import BLOCK, KEPT, PACE, SHARE, RecentItems
from tests.reference.recent_items import with_recent_items
from tests.small_model import build_small, perturb


def _unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def _numbers(recent):
    """Return g and a as a table of a user's settings would have them."""
    return F.softplus(PACE * recent.weights[0]), torch.sigmoid(PACE * recent.weights[1])


@given(st.lists(st.lists(st.integers(1, 19), min_size=1, max_size=7), min_size=1, max_size=5), st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_equals_a_loop_over_positions_and_so_do_gradients(rows, seed):
    _check_equal_to_the_loop(rows, seed)


@pytest.mark.parametrize("sizes", [[150], [2 * BLOCK, 1], [BLOCK + 3, BLOCK - 7, 40, 30, 5, 1], [200, 130, 64, 63, 65]])
def test_long_histories_are_summed_block_by_block(sizes):
    """Beside each other in rows of several blocks, with beginnings and ends within them."""
    generator = torch.Generator().manual_seed(3)
    _check_equal_to_the_loop([torch.randint(1, 20, (size,), generator=generator).tolist() for size in sizes], 5)


def _check_equal_to_the_loop(rows, seed):
    recent, vectors = RecentItems(), _unit(20, 6).requires_grad_()
    with torch.no_grad():
        recent.weights += 0.1 * torch.randn(2, generator=torch.Generator().manual_seed(seed))
    items = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    for number, row in enumerate(rows):
        items[number, : len(row)] = torch.tensor(row)
    wanted = items > 0
    wanted[0, 0] = len(rows[0]) == 1  # not every position has a target
    users = _unit(int(wanted.sum()), 6, seed=1).requires_grad_()
    share, kept = _numbers(recent)
    expected = torch.stack(
        [
            with_recent_items(user, vectors, rows[row][: place + 1], share, kept)
            for user, (row, place) in zip(users, wanted.nonzero().tolist(), strict=True)
        ]
    )
    found = recent(users, vectors, items, wanted)
    lengths = (items > 0).sum(1)
    last = lengths[:, None] - 1 == torch.arange(items.shape[1])
    whole = recent.of_whole(users[last[wanted]], vectors, items, lengths)
    torch.testing.assert_close(whole, found[last[wanted]], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    inputs = (users, vectors, recent.weights)
    for own, other in zip(
        torch.autograd.grad((found * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(own, other, atol=1e-4, rtol=1e-3)


def test_starts_where_it_says():
    torch.testing.assert_close(torch.stack(_numbers(RecentItems())), torch.tensor([SHARE, KEPT]))


def test_a_user_without_history_keeps_the_vector_of_the_llm():
    user = _unit(1, 6)
    none = torch.zeros(1, 3, dtype=torch.int64)
    recent, vectors = RecentItems(), _unit(20, 6)
    torch.testing.assert_close(recent(user, vectors, none, torch.tensor([[True, False, False]])), user)
    torch.testing.assert_close(recent.of_whole(user, vectors, none, torch.tensor([0])), user)


def test_off_has_no_weights_and_changes_nothing():
    off, user = RecentItems(on=False), _unit(1, 6)
    assert not list(off.parameters())
    items = torch.tensor([[3]])
    assert off(user, _unit(20, 6), items, items > 0) is user
    assert off.of_whole(user, _unit(20, 6), items, torch.tensor([1])) is user


def test_an_untrained_model_ranks_what_resembles_the_last_item_first(small_run):
    """Before any step the direct way is all that the ranking knows, and new positions never see later items."""
    model = build_small(small_run, tasks=["U2I"]).model
    model.refresh_items()
    model.eval()
    vectors = model.item_vectors()
    items = torch.arange(1, model.n_items)[:, None]
    users = model.user_vectors(items, torch.ones(len(items), dtype=torch.int64))
    nearest = (users @ vectors[1:].T).argmax(1)
    assert (nearest == torch.arange(len(items))).float().mean() > 0.9
    shown = torch.tensor([[5, 9, 2], [5, 9, 2]])
    perturb(model)
    short, whole = model.user_vectors(shown, torch.tensor([2, 3]))
    alone = model.user_vectors(shown[:1, :2], torch.tensor([2]))[0]
    torch.testing.assert_close(short, alone, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(short, whole, atol=1e-3)


def test_the_control_is_one_of_rankings_by_the_item_table(small_run):
    model = build_small(small_run, tasks=["U2I"], control="no_recent_items").model
    assert not [name for name, _ in model.named_parameters() if name.startswith("recent_items")]
    with pytest.raises(ConfigError, match="no_recent_items is one of rankings by the item table"):
        build_small(small_run, history="prompt", control="no_recent_items")
