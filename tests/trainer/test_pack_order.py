"""The order of packs: an epoch has every example once, and is as long as it says."""

import numpy as np
import pytest

from recbole_recfound.data.behaviour import Pack, Source
from recbole_recfound.model.m6rec import Example
from recbole_recfound.trainer.pack_order import PackOrder


def _example(first: int, targets: int) -> Example:
    source = Source(np.zeros(3, np.int64), np.zeros(3, np.int64))
    return Example(Pack(source, np.zeros((targets, 2), np.int64), np.zeros(2, np.int64)), first + np.arange(targets))


@pytest.mark.parametrize("size", [1, 4, 7, 64, 1000])
def test_an_epoch_has_every_target_once(size):
    """Packs are not divided: a batch of at least 4 targets may have 20, and an epoch then has fewer batches."""
    sizes = np.random.default_rng(0).integers(1, 21, 60)
    firsts = np.cumsum(sizes) - sizes
    order = PackOrder([_example(*pair) for pair in zip(firsts, sizes, strict=True)], None, size, seed=1)
    given = [order.next() for _ in range(len(order))]
    assert sorted(np.concatenate([example.answers for batch in given for example in batch])) == list(range(sizes.sum()))
    order.next()
    assert (order.epoch, order.position) == (1, 1)
