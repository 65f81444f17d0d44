"""The training of a student learns what it is given, and ends with exactly the zeros that are wanted."""

from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from recbole_recfound.edge.distil import (
    PENALTY,
    Related,
    Scored,
    Tensors,
    distil,
    fit_head,
    learn_relations,
    learn_scores,
    score_loss,
)
from recbole_recfound.edge.options import DistilOptions
from recbole_recfound.edge.rounding import rounded
from recbole_recfound.errors import TrainingError
from tests.edge.conftest import NEWLINE


def examples(count=12, seed=0):
    """Targets with token 5 are liked by the teacher."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        targets = [[NEWLINE, *generator.integers(6, 40, 4).tolist(), NEWLINE, 7] for _ in range(4)]
        for target in targets[::2]:
            target[2] = 5
        scores = np.array([0.9, 0.2, 0.9, 0.2], dtype=np.float32)
        labels = np.array([1, 0, np.nan, np.nan], dtype=np.float32)
        found.append(Scored(generator.integers(6, 40, 5).tolist(), targets, scores, labels))
    return found


def options(**given):
    sizes = {"layers": 2, "width": 32, "embedding_size": 8, "seconds": float("inf"), "learning_rate": 0.01}
    return DistilOptions.of(sizes | given, "distill")


@pytest.mark.parametrize(("sparsity", "int8"), [(0.0, False), (0.8, False), (0.8, True)])
def test_learns_the_scores_at_every_exit_with_exactly_the_sparsity(make_student, sparsity, int8):
    student = make_student(layers=2, exits=[1, 2], share_layers=True)
    given = options(steps=60, share_layers=True, sparsity=sparsity, int8=int8)
    facts = distil(student, [], examples(), given, False)
    assert facts["scores"]["steps"] == 60 and facts["relations"]["steps"] == 0
    for weight in student.matrices().values():
        assert int((weight == 0).sum()) >= round(sparsity * weight.numel())
        if sparsity:
            assert int((weight == 0).sum()) == round(sparsity * weight.numel())
        assert (rounded(weight)[weight == 0] == 0).all()
    new = examples(4, seed=1)
    tensors = Tensors.of([one.source for one in new], [one.targets for one in new])
    with torch.no_grad():
        for logits in student(tensors.sources, tensors.targets, tensors.source_of):
            liked, other = logits.softmax(-1)[:, 1].view(-1, 2).mean(0)
            assert liked > other + 0.1


def test_the_head_is_fitted_before_it_is_trained(make_student):
    """As a regression of the teacher's logits on the states that it reads, whatever they were."""
    student = make_student(layers=2, exits=[1, 2])
    given = examples()
    assert fit_head(student, given, options(steps=1), 60.0, MagicMock(n=0), PENALTY) == 48
    tensors = Tensors.of([one.source for one in given], [one.targets for one in given])
    with torch.no_grad():
        states = torch.cat(student.pooled(tensors.sources, tensors.targets, tensors.source_of))
        logits = torch.cat(student(tensors.sources, tensors.targets, tensors.source_of)).diff()[:, 0]
    torch.testing.assert_close(student.center, states.mean(0), atol=1e-5, rtol=1e-4)
    scores = np.tile(np.concatenate([one.scores for one in given]), 2)
    read = student.read(states).numpy()
    expected = Ridge(PENALTY * len(read)).fit(read, np.log(scores / (1 - scores))).predict(read)
    np.testing.assert_allclose(logits, expected, atol=1e-3)
    assert np.corrcoef(logits, scores)[0, 1] > 0.9


def test_learns_relations_of_the_last_layer(make_student):
    student = make_student(layers=2, exits=[1, 2], share_layers=True)
    generator = torch.Generator().manual_seed(0)
    related = [
        Related(
            [6 + row, 7, 8],
            [9, 10 + row],
            tuple(3 * torch.randn(5, width, generator=generator) for width in (24, 8, 8)),
        )
        for row in range(4)
    ]
    before, first = {name: weight.clone() for name, weight in student.named_parameters()}, MagicMock(n=0)
    learn_relations(student, related, options(steps=1), 60.0, first)
    bar = MagicMock(n=0)
    assert learn_relations(student, related, options(steps=80), 60.0, bar) == 80
    losses = [float(one.set_postfix_str.call_args.args[0].split()[1]) for one in (first, bar)]
    assert losses[1] < 0.5 * losses[0]
    assert torch.equal(before["head.weight"], student.head.weight), "relations say nothing to the head"


def test_the_loss_of_scores_and_labels():
    logits = torch.tensor([[0.0, 1.0], [0.5, -0.5]])
    scores, labels = torch.tensor([0.8, 0.3]), torch.tensor([1.0, float("nan")])
    log = logits.log_softmax(-1)
    soft = -(scores * log[:, 1] + (1 - scores) * log[:, 0])
    expected = ((soft[0] - log[0, 1]) / 2 + soft[1]) / 2
    torch.testing.assert_close(score_loss(logits, scores, labels), expected)


def test_8_bits_are_trained_in_the_second_half_and_only_if_asked(make_student):
    found = {}
    for int8 in (False, True):
        student, rounds = make_student(layers=2, exits=[1, 2]), []
        student.project.register_forward_hook(lambda module, *_, rounds=rounds: rounds.append(module.rounds))
        learn_scores(student, examples(), options(steps=6, int8=int8), 60.0, MagicMock(n=0), None)
        found[int8] = rounds
        assert all(weight.grad is None or weight.grad.isfinite().all() for weight in student.parameters())
    assert found[False] == 12 * [False]
    assert found[True] == 6 * [False] + 6 * [True], "source and target of each step"


def test_too_few_seconds_for_a_step_are_said(make_student, capsys):
    facts = distil(make_student(layers=2, exits=[1, 2]), [], examples(), options(seconds=1e-6), False)
    assert facts["scores"]["steps"] == 0
    assert "note: seconds: 1e-06 s were over before a step on the scores" in capsys.readouterr().out
    distil(make_student(layers=2, exits=[1, 2]), [], examples(), options(steps=1), False)
    assert "note" not in capsys.readouterr().out


def test_the_same_seed_gives_the_same_student(make_student):
    found = []
    for _ in range(2):
        student = make_student(layers=2, exits=[1, 2])
        distil(student, [], examples(), options(steps=5), False)
        found.append(student.state_dict())
    assert all(torch.equal(weight, found[1][name]) for name, weight in found[0].items())


def test_a_loss_that_is_not_finite_ends_the_training(make_student):
    student = make_student(layers=2, exits=[1, 2])
    with torch.no_grad():
        student.head.weight.fill_(torch.nan)
    with pytest.raises(TrainingError, match="the loss is nan at step 1"):
        learn_scores(student, examples(), options(steps=5), 60.0, MagicMock(n=0), None)
