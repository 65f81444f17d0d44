"""Gradual magnitude pruning: exactly the sparsity, the smallest weights, and zeros that stay."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from recbole_recfound.edge.pruning import RAMP, Pruner, matrices_of, sparsity_at


@settings(deadline=None, max_examples=50)
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    levels=st.integers(1, 4),
    steps=st.lists(st.floats(0, 0.99), min_size=1, max_size=4),
    seed=st.integers(0, 100),
)
def test_exactly_the_sparsity_whatever_the_ties(rows, columns, levels, steps, seed):
    """Few different sizes, so that most weights tie."""
    generator = torch.Generator().manual_seed(seed)
    weight = nn.Parameter(torch.randint(1, levels + 1, (rows, columns), generator=generator).float())
    before = weight.detach().clone()
    pruner = Pruner({"one": weight})
    for sparsity in sorted(steps):
        pruner.prune(sparsity)
        zeros = weight == 0
        assert int(zeros.sum()) == round(sparsity * weight.numel())
        if zeros.any() and not zeros.all():
            assert before[zeros].max() <= before[~zeros].min()
        assert torch.equal(weight[~zeros], before[~zeros])


def test_zeros_stay_through_further_steps():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 5))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    pruner = Pruner(matrices_of(model))
    assert set(pruner.matrices) == {"0.weight", "1.weight"}
    for step in range(4):
        model(torch.randn(16, 8)).square().sum().backward()
        optimizer.step()
        pruner.keep() if step else pruner.prune(0.8)
        for weight in pruner.matrices.values():
            assert int((weight == 0).sum()) == round(0.8 * weight.numel())
        if step == 0:
            zeros = {name: weight == 0 for name, weight in pruner.matrices.items()}
    assert all(torch.equal(weight == 0, zeros[name]) for name, weight in pruner.matrices.items())


def test_the_schedule_is_cubic_and_ends_before_the_training():
    assert sparsity_at(0.0, 0.8) == 0
    assert sparsity_at(RAMP / 2, 0.8) == pytest.approx(0.8 * (1 - 0.5**3))
    assert sparsity_at(RAMP, 0.8) == sparsity_at(1.0, 0.8) == 0.8
