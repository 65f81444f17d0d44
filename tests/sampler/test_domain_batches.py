"""Batch sizes, shares and order of dynamic batch-aware sampling."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_recfound.sampler.domain_batches import DomainBatchSampler, dynamic_batch_sizes


def domains_of(counts, none=3):
    return np.random.default_rng(0).permutation(np.repeat(np.arange(-1, len(counts)), [none, *counts]))


def test_the_formula_by_hand():
    # median 400; B (N / median)^.5 = 128, 256, 512, then clipped to 4 B = 1024 and to 16
    assert dynamic_batch_sizes([100, 400, 1600], 256).tolist() == [128, 256, 512]
    assert dynamic_batch_sizes([1, 400, 400, 400_000], 256).tolist() == [16, 256, 256, 1024]
    assert dynamic_batch_sizes([0, 400], 256).tolist() == [0, 256]
    assert dynamic_batch_sizes([0, 0], 256).tolist() == [0, 0]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=6),
    st.sampled_from([16, 32]),
    st.sampled_from(["dynamic", "fixed", "mixed"]),
)
def test_every_row_is_seen_and_no_row_without_a_domain(counts, batch_size, mode):
    domain = domains_of(counts)
    sampler = DomainBatchSampler(domain, len(counts), batch_size, mode, epochs=2, least_steps=6, seed=1)
    batches = list(sampler)
    seen = [row for batch in batches for row in batch]
    assert set(seen) == set(np.flatnonzero(domain >= 0).tolist())
    steps = np.zeros(len(counts), dtype=int)
    for batch in batches:
        assert len(batch) <= 4 * batch_size
        steps[np.unique(domain[batch])] += 1
    for number, count in enumerate(counts):
        drawn = sum((domain[batch] == number).sum() for batch in batches)
        once = mode != "dynamic" or -(-count // max(1, sampler.sizes[number])) >= 3
        assert drawn == count if once else drawn >= count, (
            "further rows only for a domain's least steps, three an epoch"
        )
    if mode != "mixed":
        assert steps.tolist() == sampler.steps.tolist()
    if mode == "dynamic":
        assert all(2 * made >= 6 for made, count in zip(steps, counts, strict=True) if count)
        largest = [
            max(np.bincount(domain[batch], minlength=len(counts))[d] for batch in batches)
            for d in range(len(counts))
            if counts[d]
        ]
        assert all(size <= sampler.sizes[d] for size, d in zip(largest, np.flatnonzero(counts), strict=True))


def test_rates_follow_the_root_of_the_batch():
    sampler = DomainBatchSampler(domains_of([100, 400, 1600]), 3, 256)
    np.testing.assert_allclose(sampler.rate_factors, [0.5**0.5, 1, 2**0.5])
    assert DomainBatchSampler(domains_of([100, 400]), 2, 256, "mixed").rate_factors.tolist() == [1, 1]


@pytest.mark.parametrize("counts", [[200] * 40, [50, 90], [10, 1000, 30], [17]])
@pytest.mark.parametrize("mode", ["dynamic", "fixed", "mixed"])
def test_the_length_of_an_epoch_is_known_beforehand(counts, mode):
    sampler = DomainBatchSampler(domains_of(counts), len(counts), 32, mode, seed=3)
    said = sampler.steps_per_epoch()
    made = [len(list(sampler)) for _ in range(4)]
    assert 0.8 * np.mean(made) <= said <= 1.25 * np.mean(made)


def test_epochs_differ_seeds_repeat_and_stopped_domains_rest():
    domain = domains_of([50, 90])
    first, again = (DomainBatchSampler(domain, 2, 16, seed=5) for _ in range(2))
    one = list(first)
    assert one == list(again) and list(first) != one
    first.stop(np.array([1]))
    assert {int(domain[row]) for batch in first for row in batch} == {0}
    first.stop(np.array([0]))
    assert list(first) == []


@pytest.mark.parametrize("mode", ["dynamic", "fixed"])
def test_a_batch_has_one_step_of_a_domain_and_domains_are_spread(mode):
    domain = domains_of([64, 640])
    batches = list(DomainBatchSampler(domain, 2, 16, mode, seed=0))
    with_small = [number for number, batch in enumerate(batches) if (domain[batch] == 0).any()]
    assert with_small[-1] - with_small[0] > len(batches) / 2


@pytest.mark.parametrize("mode", ["dynamic", "fixed", "mixed"])
def test_a_domain_alone_has_the_batches_it_has_among_others(mode):
    """What is compared with kernels learns from batches of the same size, whatever rule gave it."""
    domain = domains_of([8, 100, 300])
    sampler = DomainBatchSampler(domain, 3, 200, mode, epochs=2, least_steps=6)
    sampler.stop(np.array([1]))
    for number in range(3):
        alone = sampler.only(number)
        batches = list(alone)
        assert {int(domain[row]) for batch in batches for row in batch} == {number}
        assert len(batches) == (1 if mode == "mixed" and number < 2 else alone.steps[number])
        assert max(map(len, batches)) <= (200 if mode == "mixed" else sampler.sizes[number])
    assert sampler.stopped.tolist() == [False, True, False]
