"""8-bit numbers in torch: what they are, what stays zero, and how gradients pass."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_recfound.edge.rounding import LEVELS, RoundedLinear, rounded, set_rounding


@settings(deadline=None, max_examples=50)
@given(rows=st.integers(1, 5), width=st.integers(1, 9), size=st.sampled_from([1e-8, 1.0, 1e6]), seed=st.integers(0, 99))
def test_every_row_has_255_values_of_its_own(rows, width, size, seed):
    states = size * torch.randn(2, rows, width, generator=torch.Generator().manual_seed(seed))
    states[0, 0] = 0
    states[1, -1, 0] = 0
    found = rounded(states)
    steps = states.abs().amax(-1, keepdim=True) / LEVELS
    assert ((found - states).abs() <= 0.501 * steps).all()
    levels = found / steps.clamp(min=1e-12)
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
    assert (found[states == 0] == 0).all()
    torch.testing.assert_close(rounded(found), found)
    torch.testing.assert_close(rounded(states[1, :1]), found[1, :1], msg="other rows make no difference")


def test_gradients_pass_through_the_rounding():
    torch.manual_seed(0)
    linear = RoundedLinear(6, 5, bias=False)
    states, weights = torch.randn(3, 6, requires_grad=True), torch.randn(3, 5)
    set_rounding(linear, True)
    result = linear(states)
    assert not torch.equal(result, torch.nn.functional.linear(states, linear.weight))
    (result * weights).sum().backward()
    torch.testing.assert_close(states.grad, weights @ rounded(linear.weight))
    torch.testing.assert_close(linear.weight.grad, weights.T @ rounded(states))


@torch.no_grad()
def test_a_student_rounds_when_it_is_told_to(make_student, batch):
    student = make_student()
    expected = torch.stack(student(*batch))
    set_rounding(student, True)
    found = torch.stack(student(*batch))
    assert 1e-4 < (found - expected).abs().max() < 0.5
    set_rounding(student, False)
    assert torch.equal(torch.stack(student(*batch)), expected)


@pytest.mark.parametrize("share", [True, False])
def test_every_matrix_of_a_student_is_rounded_but_the_head(make_student, batch, share):
    """A change within a level of a row changes nothing while the largest weight of the row stays."""
    student = make_student(share_layers=share)
    set_rounding(student, True)
    with torch.no_grad():
        expected = torch.stack(student(*batch))
        for weight in student.matrices().values():
            weight.copy_(rounded(weight))
        torch.testing.assert_close(torch.stack(student(*batch)), expected, atol=1e-5, rtol=0)
