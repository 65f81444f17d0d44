"""One order of equal scores, whatever else is asked."""

import pytest
import torch

from recbole_recfound.serving.best import best_of


@pytest.mark.parametrize("k", [0, 1, 3, 10, 40])
def test_the_best_are_those_of_a_stable_sort(k):
    torch.manual_seed(0)
    scores = torch.randint(0, 6, (50, 40)).float()  # many are equal
    expected = scores.sort(dim=1, descending=True, stable=True)
    values, places = best_of(scores, k)
    assert torch.equal(values, expected.values[:, :k]) and torch.equal(places, expected.indices[:, :k])


def test_an_answer_does_not_depend_on_k_and_other_rows():
    torch.manual_seed(1)
    scores = torch.randint(0, 3, (8, 1000)).float()
    together = best_of(scores, 100)[1]
    for row in range(len(scores)):
        assert torch.equal(best_of(scores[row : row + 1], 7)[1][0], together[row, :7])


def test_left_out_items_come_last():
    scores = torch.tensor([[-torch.inf, 1.0, -torch.inf, 1.0, 0.5]])
    values, places = best_of(scores, 4)
    assert places[0, :3].tolist() == [1, 3, 4] and values[0, 3] == -torch.inf
