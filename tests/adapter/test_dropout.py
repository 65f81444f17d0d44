import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_recfound.adapter.tmole.dropout import Dropout


@given(st.lists(st.integers(0, 7), min_size=1, max_size=3), st.floats(0.001, 0.999), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_elements_are_dropped_or_rescaled(shape, p, seed):
    torch.manual_seed(seed)
    x = torch.randn(shape) + 10
    y = Dropout(p)(x)
    assert y.shape == x.shape
    kept = y != 0
    torch.testing.assert_close(y[kept], x[kept] / (1 - p), rtol=2e-2, atol=0)


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_rate_and_independence(p, dtype):
    torch.manual_seed(0)
    size = 2**20
    kept = (Dropout(p)(torch.ones(size, dtype=dtype)) != 0).double()
    error = 4 * (p * (1 - p) / size) ** 0.5
    assert abs(kept.mean().item() - (1 - p)) < error
    for distance in (1, 2, 3, 4):  # neighbours come from the same draw
        both = (kept[:-distance] * kept[distance:]).mean().item()
        assert abs(both - (1 - p) ** 2) < 3 * error
    for lane in range(4):
        assert abs(kept[lane::4].mean().item() - (1 - p)) < 2 * error


def test_gradient_has_the_same_mask():
    torch.manual_seed(0)
    x = torch.ones(50, requires_grad=True)
    y = Dropout(0.5)(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_off():
    x = torch.randn(5)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)


def test_same_seed_same_mask():
    x = torch.ones(100)
    masks = []
    for _ in range(2):
        torch.manual_seed(3)
        masks.append(Dropout(0.5)(x))
    assert torch.equal(*masks)
