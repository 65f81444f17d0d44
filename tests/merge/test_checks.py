import pytest
import torch

from recbole_recfound.merge import check_same_base, pairwise_distances
from recbole_recfound.trainer.checkpoint import base_fingerprint
from tests.merge.test_merge import BASE, models


def test_pairwise_distances():
    states = [{"x": torch.tensor([0.0, 0.0]), "y": torch.tensor(0.0)} for _ in range(3)]
    states[1] = {"x": torch.tensor([2.0, 1.0]), "y": torch.tensor(2.0)}
    found = pairwise_distances(states)
    assert torch.equal(found, torch.tensor([[0.0, 3, 0], [3, 0, 3], [0, 3, 0]], dtype=torch.float64))
    with pytest.raises(ValueError, match="other tensors"):
        pairwise_distances([states[0], {"x": states[1]["x"]}])


def test_fingerprint_follows_content():
    assert base_fingerprint(dict(reversed(BASE.items()))) == base_fingerprint(BASE)
    copied = {key: value.clone() for key, value in BASE.items()}
    assert base_fingerprint(copied) == base_fingerprint(BASE)
    copied["temperature"] += 1e-6
    assert base_fingerprint(copied) != base_fingerprint(BASE)
    assert base_fingerprint({"a": torch.zeros(2)}) != base_fingerprint({"a": torch.zeros(1, 2)})
    assert base_fingerprint({"a": torch.zeros(2)}) != base_fingerprint({"b": torch.zeros(2)})
    assert base_fingerprint({"a": torch.zeros(2, dtype=torch.bfloat16)})


def test_different_bases_are_refused():
    fingerprints = [base_fingerprint(BASE), base_fingerprint(BASE)]
    check_same_base(fingerprints)
    with pytest.raises(ValueError, match="model 2 was trained from another base"):
        check_same_base([*fingerprints, base_fingerprint(models(1)[0])])
