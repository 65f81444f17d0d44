"""Numbers of a column as the file has them, from what RecBole keeps of them."""

import numpy as np
import pytest
import torch

from recbole_recfound.compat.raw_column import as_in_file

COLUMNS = [(7, 73, 0), (-20, 120, 1), (1.1, 9.9, 1), (0, 9999.99, 2), (881e6, 893e6, -3), (1e-4, 2e-3, 5)]


@pytest.mark.parametrize(("low", "high", "decimals"), COLUMNS)
def test_numbers_of_few_digits_are_restored(low, high, decimals):
    numbers = np.round(np.random.default_rng(0).uniform(low, high, 3000), decimals)
    assert np.array_equal(as_in_file(torch.from_numpy(numbers).float(), None), numbers)
    least, most = numbers.min(), numbers.max()
    for precision in (torch.float32, torch.float64):
        scaled = torch.from_numpy((numbers - least) / (most - least)).to(precision)
        assert np.array_equal(as_in_file(scaled, (least, most)), numbers)
        # The range of training rows, within that of all rows.
        first, last = float(scaled.double().quantile(0.1)), float(scaled.double().quantile(0.8))
        again = ((scaled.double() - first) / (last - first)).to(precision)
        found = as_in_file(again, (least + first * (most - least), least + last * (most - least)))
        assert np.array_equal(found, numbers)


def test_other_numbers_stay_within_the_precision():
    numbers = torch.from_numpy(np.random.default_rng(1).normal(size=3000))
    assert torch.equal(as_in_file(numbers, None), numbers)
    single = numbers.float()
    assert torch.equal(as_in_file(single, None).float(), single)
    assert (as_in_file(single, (0.0, 100.0)) - 100 * single.double()).abs().max() <= 100 * 2**-23


def test_numerical_features_are_pairs():
    single = torch.tensor([3.3, torch.nan])
    pairs = torch.stack([single, torch.ones(2)], dim=1)
    for found in (None, (0.0, 5.0)):
        assert torch.equal(as_in_file(pairs, found).nan_to_num(), as_in_file(single, found).nan_to_num())


def test_what_is_no_number():
    values = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0])
    found = as_in_file(values, None)
    assert found[0].isnan() and found[1:].tolist() == [torch.inf, -torch.inf, 0.0]
    assert as_in_file(torch.ones(2), (5.0, 5.0)).tolist() == [5.0, 5.0]
    assert as_in_file(torch.ones(2), (torch.nan, torch.nan)).isnan().all()
    assert as_in_file(torch.tensor([3]), None).tolist() == [3.0]
