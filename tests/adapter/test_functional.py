import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_recfound.adapter.tmole.functional import fold, route, spread, tmole_linear
from tests.adapter.models import relative_error

sizes = st.fixed_dictionaries(
    {
        "experts": st.integers(1, 7),
        "r": st.integers(1, 5),
        "batch": st.integers(1, 4),
        "length": st.integers(1, 9),
        "d_in": st.integers(1, 8),
        "d_out": st.integers(1, 8),
        "seed": st.integers(0, 2**16),
    }
)


def draw(experts, r, batch, length, d_in, d_out, seed):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    is_open = torch.rand(batch, experts, generator=generator) < 0.5
    is_open[:, 0] = True
    gate = route(normal(batch, 6), normal(experts, 6), normal(experts), is_open).double()
    tensors = normal(batch, length, d_in), normal(batch, length, d_out)
    return *tensors, normal(experts * r, d_in), normal(d_out, experts * r), gate, is_open


def wide(x, base_out, lora_A, lora_B, gate, scaling):
    return tmole_linear(x, base_out, lora_A, lora_B, spread(gate, scaling, lora_A.shape[0]))


def loop(x, base_out, lora_A, lora_B, gate, scaling):
    experts = gate.shape[1]
    for expert, (A, B) in enumerate(zip(lora_A.chunk(experts), lora_B.chunk(experts, dim=1), strict=True)):
        base_out = base_out + scaling * gate[:, expert, None, None] * (x @ A.T @ B.T)
    return base_out


@given(sizes)
@settings(max_examples=60, deadline=None)
def test_gate_is_a_distribution_over_open_experts(size):
    *_, gate, is_open = draw(**size)
    torch.testing.assert_close(gate.sum(-1), torch.ones(len(gate), dtype=gate.dtype), rtol=1e-6, atol=0)
    assert torch.equal(gate > 0, is_open)


@given(sizes)
@settings(max_examples=60, deadline=None)
def test_wide_product_equals_loop(size):
    x, base_out, lora_A, lora_B, gate, _ = draw(**size)
    expected = loop(x, base_out, lora_A, lora_B, gate, 0.7)
    torch.testing.assert_close(wide(x, base_out, lora_A, lora_B, gate, 0.7), expected)
    for row in range(len(x)):  # the single-task paths
        single = wide(x[row : row + 1], base_out[row : row + 1], lora_A, lora_B, gate[row : row + 1], 0.7)
        torch.testing.assert_close(single[0], expected[row])


@given(sizes)
@settings(max_examples=60, deadline=None)
def test_fold_is_an_ordinary_lora_of_the_open_rank(size):
    x, base_out, lora_A, lora_B, gate, is_open = draw(**size)
    A, B = fold(lora_A, lora_B, gate[0], 0.7)
    assert A.shape == (size["r"] * int(is_open[0].sum()), size["d_in"])
    assert B.shape == (size["d_out"], A.shape[0])
    expected = loop(x, torch.zeros_like(base_out), lora_A, lora_B, gate[:1], 0.7)
    torch.testing.assert_close(x @ A.T @ B.T, expected)


@given(sizes)
@settings(max_examples=30, deadline=None)
def test_closed_experts_can_be_dropped(size):
    x, base_out, lora_A, lora_B, gate, is_open = draw(**size | {"batch": 1})
    kept = is_open[0].repeat_interleave(size["r"])
    full = wide(x, base_out, lora_A, lora_B, gate, 2.0)
    slim = wide(x, base_out, lora_A[kept], lora_B[:, kept], gate[:, is_open[0]], 2.0)
    torch.testing.assert_close(slim, full)


@pytest.mark.parametrize("rows", [1, 3])
def test_two_dimensional_input(rows):
    x, base_out, lora_A, lora_B, gate, _ = draw(3, 2, rows, 1, 5, 4, seed=0)
    flat = wide(x[:, 0], base_out[:, 0], lora_A, lora_B, gate, 0.5)
    torch.testing.assert_close(flat, wide(x, base_out, lora_A, lora_B, gate, 0.5)[:, 0])


@pytest.mark.parametrize(("rows", "length"), [(1, 9), (1, 1), (3, 3)])
def test_gradients_are_those_of_the_loop(rows, length):
    x, base_out, lora_A, lora_B, gate, _ = draw(4, 2, rows, length, 5, 4, seed=3)
    found, expected = [], []
    for function, kept in ((wide, found), (loop, expected)):
        inputs = [tensor.clone().requires_grad_() for tensor in (x, base_out, lora_A, lora_B, gate)]
        function(*inputs, 1.5).square().sum().backward()
        kept.extend(tensor.grad for tensor in inputs)
    for left, right in zip(found, expected, strict=True):
        assert relative_error(left, right) < 1e-12


def test_half_precision_tokens_with_float32_weights():
    x, base_out, lora_A, lora_B, gate, _ = (tensor.float() for tensor in draw(6, 4, 2, 8, 16, 16, seed=1))
    expected = wide(x, base_out, lora_A, lora_B, gate, 0.5)
    found = wide(x.bfloat16(), base_out.bfloat16(), lora_A, lora_B, gate, 0.5)
    assert found.dtype == torch.bfloat16
    assert relative_error(found.float(), expected) < 0.03


def test_route_is_float32_under_autocast():
    generator = torch.Generator().manual_seed(0)
    embedding, weight = torch.randn(5, 512, generator=generator), torch.randn(6, 512, generator=generator)
    is_open = torch.ones(5, 6, dtype=torch.bool)
    plain = route(embedding, weight, torch.zeros(6), is_open)
    with torch.autocast("cpu", torch.bfloat16):
        cast = route(embedding, weight, torch.zeros(6), is_open)
    assert cast.dtype == torch.float32
    assert torch.equal(cast, plain)
