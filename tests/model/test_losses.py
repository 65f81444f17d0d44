"""Losses against slow, obvious versions: values and gradients."""

import pytest
import torch
from torch.nn import functional as F

from recbole_recfound.model.losses import answer_loss, info_nce, next_item_loss, sampled_candidates
from tests.reference.losses import answer_rows, info_nce_rows, next_item_rows


def _unit(*shape):
    return F.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1).float().requires_grad_()


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def assert_equal(ours, theirs, inputs):
    """Values and gradients of a weighted sum, so that every row counts differently."""
    torch.testing.assert_close(ours, theirs)
    weights = torch.rand(len(ours))
    for mine, other in zip(
        torch.autograd.grad((ours * weights).sum(), inputs, retain_graph=True),
        torch.autograd.grad((theirs * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-4)


TARGETS = torch.tensor([[3, 0, 5, 1], [0, 0, 0, 0], [7, 7, 2, 0]])
# The second row's 7 is consumed twice: a target stays a candidate.
PAST = torch.tensor([[6, 3, 0, 5], [0, 0, 0, 0], [1, 7, 7, 2]])


def test_next_item_over_the_whole_catalogue():
    states, items = _unit(3, 4, 6), _unit(8, 6)
    assert_equal(
        next_item_loss(states[TARGETS > 0], TARGETS, items, 0.1),
        next_item_rows(states, TARGETS, items, 0.1),
        [states, items],
    )
    assert next_item_loss(states[TARGETS > 0], TARGETS, items, 0.1)[1] == 0


def test_what_was_read_is_no_candidate():
    states, items = _unit(3, 4, 6), _unit(8, 6)
    ours = next_item_loss(states[TARGETS > 0], TARGETS, items, 0.1, past=PAST)
    assert_equal(ours, next_item_rows(states, TARGETS, items, 0.1, past=PAST), [states, items])
    assert (ours < next_item_loss(states[TARGETS > 0], TARGETS, items, 0.1)).tolist() == [True, False, True]


@pytest.mark.parametrize("parts", [[3], [1, 2], [1, 1, 1]])
def test_every_position_weighs_alike_however_a_batch_is_cut(parts):
    states, items = _unit(3, 4, 6), _unit(8, 6)
    cut = [part.split(parts) for part in (states, TARGETS)]
    ours = torch.cat(
        [
            next_item_loss(rows[wanted > 0], wanted, items, 0.1, targets_per_row=2.5)
            for rows, wanted in zip(*cut, strict=True)
        ]
    )
    assert_equal(ours, next_item_rows(states, TARGETS, items, 0.1, targets_per_row=2.5), [states, items])


@pytest.mark.parametrize("past", [None, PAST])
@pytest.mark.parametrize("seed", range(4))
def test_next_item_over_a_sample(seed, past):
    states, items = _unit(3, 4, 6), _unit(40, 6)
    torch.manual_seed(seed)
    candidates = sampled_candidates(TARGETS, 40, 6)
    ours = next_item_loss(states[TARGETS > 0], TARGETS, items[candidates], 0.1, candidates, past=past)
    torch.manual_seed(seed)
    drawn = torch.randint(1, 40, (6,)).tolist()
    columns = sorted({*drawn, *TARGETS[TARGETS > 0].tolist()})
    assert candidates.tolist() == columns
    assert_equal(ours, next_item_rows(states, TARGETS, items, 0.1, columns, past), [states, items])


def test_a_sample_never_holds_padding():
    for _ in range(20):
        candidates = sampled_candidates(torch.tensor([[2, 0]]), 4, 50)
        assert candidates.tolist() == [1, 2, 3]


def test_padding_is_no_candidate():
    states, items = _unit(1, 1, 6), _unit(4, 6)
    with torch.no_grad():
        items[0] = states[0, 0] * 1000
    assert next_item_loss(states[:, 0], torch.tensor([[2]]), items, 1.0).item() < 5


def test_info_nce():
    queries, items = _unit(3, 6), _unit(5, 6)
    positive = torch.tensor([0, 4, 2])
    allowed = torch.tensor([[1, 1, 0, 1, 1], [0, 1, 1, 1, 1], [0, 0, 1, 0, 0]]).bool()
    ours = info_nce(queries, items, positive, allowed, 0.05)
    assert_equal(ours, info_nce_rows(queries, items, positive, allowed, 0.05), [queries, items])
    assert ours[2] == 0


def test_answer_loss():
    states, head = torch.randn(3, 5, 6, requires_grad=True), torch.nn.Linear(6, 9)
    labels = torch.tensor([[-100, -100, 3, 4, 2], [-100, 7, 2, -100, -100], [-100] * 5])
    ours = answer_loss(states, head, labels)
    assert_equal(ours, answer_rows(states, head, labels), [states, head.weight])
    assert ours[2] == 0


def _loss(states, targets, items, sampled, held_out):
    """The loss over the catalogue, or over the same sample in each call."""
    torch.manual_seed(0)
    candidates = sampled_candidates(targets, len(items), sampled) if sampled else None
    return next_item_loss(
        states, targets, items if candidates is None else items[candidates], 0.5, candidates, held_out=held_out
    )


@pytest.mark.parametrize("sampled", [0, 6])
def test_held_out_items_are_no_candidates(sampled):
    """Equal to a catalogue without them; they get no gradient."""
    generator = torch.Generator().manual_seed(4)
    states = F.normalize(torch.randn(2, 4, generator=generator), dim=-1)
    items = F.normalize(torch.randn(9, 4, generator=generator), dim=-1).requires_grad_()
    targets = torch.tensor([[1, 2]])
    loss = _loss(states, targets, items, sampled, held_out=torch.tensor([5, 8]))
    loss.sum().backward()
    assert (items.grad[[5, 8]] == 0).all() and items.grad[1:5].abs().sum() > 0
    if not sampled:
        kept = [0, 1, 2, 3, 4, 6, 7]
        torch.testing.assert_close(loss, next_item_loss(states, targets, items[kept], 0.5))


@pytest.mark.parametrize("sampled", [0, 6])
def test_a_held_out_target_stays_a_candidate_of_its_own_row(sampled):
    """As in the probe of a validation by new items: closed for the others, not for itself."""
    generator = torch.Generator().manual_seed(4)
    states = F.normalize(torch.randn(2, 4, generator=generator), dim=-1)
    items = F.normalize(torch.randn(9, 4, generator=generator), dim=-1)
    losses = []
    for held_out in ([5, 8], [8]), ([5, 8], [5]):
        closed, other = map(torch.tensor, held_out)
        target = next(iter(set(held_out[0]) - set(held_out[1])))
        losses.append(_loss(states[:1], torch.tensor([[target]]), items, sampled, held_out=closed))
        expected = _loss(states[:1], torch.tensor([[target]]), items, sampled, held_out=other)
        torch.testing.assert_close(losses[-1], expected)
    torch.manual_seed(0)
    both = next_item_loss(states[:1].repeat(2, 1), torch.tensor([[5, 8]]), items, 0.5, held_out=torch.tensor([5, 8]))
    if not sampled:
        torch.testing.assert_close(both, torch.cat(losses).mean()[None])
