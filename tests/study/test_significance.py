"""Paired tests over users."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from recbole_recfound.study.significance import compare_rows, holm, mean_over_seeds


def test_holm_on_the_example_of_the_textbook():
    # p .01, .04, .03, .005 of four tests: 4 x .005, 3 x .01, 2 x .03, and .04 not below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == pytest.approx([1.0, 1.0]) and holm([]) == []


def test_the_p_value_is_that_of_all_flips_of_signs():
    rng = np.random.default_rng(0)
    base, other = rng.random(10), rng.random(10) + 0.2
    difference = other - base
    sums = np.array([np.dot(signs, difference) for signs in itertools.product((1, -1), repeat=10)])
    extreme = (np.abs(sums) >= abs(difference.sum()) - 1e-12).mean()
    found = compare_rows({"base": base, "other": other}, "base")["other"]
    assert found.p == pytest.approx(extreme, abs=1e-3)
    assert found.difference == pytest.approx(difference.mean())
    error = difference.std(ddof=1) / 10**0.5
    assert (found.low, found.high) == pytest.approx(
        (difference.mean() - 1.96 * error, difference.mean() + 1.96 * error), abs=1e-4
    )


def test_one_difference_or_none_says_nothing():
    rows = {"a": [0.5, 0.5, 0.5], "none": [0.5, 0.5, 0.5], "one": [0.5, 0.9, 0.5]}
    assert {name: found.p for name, found in compare_rows(rows, "a").items()} == {"none": 1.0, "one": 1.0}


def test_what_is_different_is_found_and_chance_is_not():
    rng = np.random.default_rng(1)
    base = rng.random(500)
    rows = {
        "base": base,
        "better": base + 0.05 + 0.2 * rng.standard_normal(500),
        "alike": base + 0.2 * rng.standard_normal(500) - 0.0,
        "same": base,
        "unmeasured": [],
    }
    found = compare_rows(rows, "base")
    assert list(found) == ["better", "alike", "same"]
    assert found["better"].significant and found["better"].low > 0
    assert not found["alike"].significant and found["same"].p == 1.0
    assert all(one.p <= one.p_holm <= 1 for one in found.values())
    assert compare_rows(rows, "nobody") == {}
    with pytest.raises(ValueError, match="other has 2 users, base has 3"):
        compare_rows({"base": [1.0, 2.0, 3.0], "other": [1.0, 2.0]}, "base")


def test_false_findings_are_as_rare_as_promised():
    """Of tables without any difference, about 5% may have a finding."""
    rng = np.random.default_rng(2)
    wrong = 0
    for number in range(60):
        base = rng.random(60)
        rows = {"base": base} | {str(row): base + rng.standard_normal(60) for row in range(4)}
        wrong += any(one.significant for one in compare_rows(rows, "base", seed=number).values())
    assert wrong <= 8


def test_users_are_paired_by_their_ids_over_seeds_that_hold_out_others():
    """User u is tested with both seeds, v and w with one each; a row that a seed lacks is left out."""
    first = {"users": ["u", "v"], "rows": {"EASE": [0.1, 0.3], "ours": [0.3, 0.5], "BPR": [0.0, 0.0]}}
    second = {"users": ["w", "u"], "rows": {"EASE": [0.7, 0.2], "ours": [0.8, 0.4]}}
    means = mean_over_seeds([first, second])
    assert means == {"EASE": pytest.approx([0.15, 0.3, 0.7]), "ours": pytest.approx([0.35, 0.5, 0.8])}
    assert compare_rows(means, "EASE")["ours"].difference == pytest.approx((0.2 + 0.2 + 0.1) / 3)
    nothing_ranked, earlier = {"metric": "", "users": [], "rows": {}}, {"rows": {"EASE": [0.1, 0.2]}}
    assert mean_over_seeds([first, nothing_ranked]) == mean_over_seeds([first, earlier]) == {}
