"""Merge methods of any signature: their functions get what they name, options reach them, wrong ones are refused."""

import pytest
import torch

from recbole_recfound.errors import ConfigError
from recbole_recfound.merge import MERGE_METHODS, merge, merge_method
from recbole_recfound.merge.method import MergeMethod


@pytest.fixture
def registered(monkeypatch):
    """Registers methods for one test."""
    monkeypatch.setattr(MERGE_METHODS, "_entries", dict(MERGE_METHODS.items()))
    return merge_method


STATES = [{"x": torch.full((2,), value)} for value in (1.0, 2.0, 6.0)]
BASE = {"x": torch.zeros(2)}


def test_what_signatures_say():
    assert {name: method.on_deltas for name, method in MERGE_METHODS.items()} == {
        "linear": False, "slerp": False, "ties": True, "dare_ties": True,
    }  # fmt: skip
    assert {name: method.options for name, method in MERGE_METHODS.items()} == {
        "linear": {}, "slerp": {"t": 0.5}, "ties": {"density": 1.0}, "dare_ties": {"density": 1.0},
    }  # fmt: skip
    assert [name for name, method in MERGE_METHODS.items() if not method.weighted] == ["slerp"]
    assert MERGE_METHODS["slerp"].models == 2 and MERGE_METHODS["linear"].models is None


def test_options_of_a_method(registered):
    @registered("power")
    def power(tensors, weights, exponent=1.0):
        total = sum(weight * tensor**exponent for weight, tensor in zip(weights, tensors, strict=True))
        return total ** (1 / exponent)

    assert merge(STATES, "power")["x"].tolist() == pytest.approx([3.0, 3.0])
    assert merge(STATES, "power", exponent=2.0, weights=[1, 1, 0])["x"].tolist() == pytest.approx([2.5**0.5] * 2)
    with pytest.raises(ValueError, match="power has no option size; known: exponent"):
        merge(STATES, "power", size=1)


def test_a_method_on_deltas(registered):
    @registered("largest")
    def largest(deltas):
        return torch.stack(list(deltas)).max(dim=0).values

    assert merge(STATES, "largest", base={"x": torch.ones(2)})["x"].tolist() == [6.0, 6.0]
    with pytest.raises(ValueError, match="largest works on differences from a base: give the base"):
        merge(STATES, "largest")
    with pytest.raises(ValueError, match="largest takes nothing instead of weights"):
        merge(STATES, "largest", base=BASE, weights=[1, 1, 1])
    with pytest.raises(ValueError, match="largest does not prune"):
        merge(STATES, "largest", base=BASE, density=0.5)
    with pytest.raises(ValueError, match="largest prunes by itself"):
        merge(STATES, "largest", base=BASE, sparsify="magnitude")


def test_two_functions_of_one_name(registered):
    with pytest.raises(ConfigError, match="merge method 'linear' is registered twice"):
        registered("linear")(lambda tensors: tensors[0])
    assert isinstance(MERGE_METHODS["linear"], MergeMethod)
