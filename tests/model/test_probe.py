"""The linear probe that a classifier starts from."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from recbole_recfound.model.probe import PENALTY, fit_probe


@pytest.fixture
def drawn():
    """States far from 0 with small differences, as those of a decoder are, and labels that depend on them."""
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(600, 8))
    labels = (noise @ generator.normal(size=8) + 0.5 + generator.normal(size=600) > 0).astype(np.int64)
    return torch.from_numpy((40 + 0.1 * noise).astype(np.float32)).view(600, 2, 4), labels


def test_logits_are_those_of_a_logistic_regression_with_a_bias(drawn):
    states, labels = drawn
    probe = fit_probe(states.clone(), labels)
    found = (((states - probe.center) / probe.spread) * probe.weight).sum((1, 2))
    standard = ((states - states.mean(0)) / states.std(0, correction=0)).flatten(1)
    expected = LogisticRegression(C=1 / (PENALTY * 600)).fit(standard.numpy(), labels)
    np.testing.assert_allclose(found.numpy(), expected.decision_function(standard.numpy()), atol=2e-3)
    assert np.mean((found.numpy() > 0) == labels) > 0.75


def test_entries_that_do_not_vary_change_nothing(drawn):
    states, labels = drawn
    probe = fit_probe(torch.cat([states, torch.full((len(states), 2, 1), 7.0)], dim=2), labels)
    assert torch.isfinite(probe.center).all() and not probe.weight[:, -1].any() and probe.weight[:, :-1].all()


def test_one_class_or_equal_states_give_no_probe(drawn):
    states, labels = drawn
    assert fit_probe(states, np.ones_like(labels)) is None
    assert fit_probe(torch.ones_like(states), labels) is None
