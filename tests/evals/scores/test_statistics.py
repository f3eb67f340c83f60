"""Statistics against closed forms and scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from evals.scores.statistics import mcnemar_exact, minimum_detectable_difference, paired_bootstrap, wilcoxon_signed_rank

RNG = np.random.default_rng(0)
A = RNG.random(300)
B = A + 0.1 * RNG.standard_normal(300)


def test_the_bootstrap_agrees_with_the_normal_interval() -> None:
    found = paired_bootstrap(A, B, samples=20_000)
    error = np.std(A - B, ddof=1) / math.sqrt(300)
    assert found.estimate == pytest.approx(np.mean(A - B))
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.05)
    assert paired_bootstrap(A, B, samples=500, seed=1) == paired_bootstrap(A, B, samples=500, seed=1)


def test_the_bootstrap_agrees_with_scipys() -> None:
    theirs = stats.bootstrap(
        (A, B), lambda x, y, axis: np.mean(x - y, axis=axis), paired=True, method="percentile", rng=1
    )
    ours = paired_bootstrap(A, B)
    assert [ours.low, ours.high] == pytest.approx(list(theirs.confidence_interval), abs=1e-3)


def test_weights_make_a_weighted_mean() -> None:
    weights = RNG.random(300)
    assert paired_bootstrap(A, B, weights=weights, samples=10).estimate == pytest.approx(
        np.average(A - B, weights=weights)
    )
    equal = paired_bootstrap(A, A, weights=weights, samples=10)
    assert (equal.estimate, equal.low, equal.high) == (0.0, 0.0, 0.0)


def test_strata_keep_the_composition() -> None:
    a, groups = np.repeat([0.0, 1.0], 50), np.repeat(["x", "y"], 50)
    assert paired_bootstrap(a, 0 * a, groups=groups, samples=100).low == 0.5
    assert paired_bootstrap(a, 0 * a, samples=1000).low < 0.45


@pytest.mark.parametrize(("only_a", "only_b", "p"), [(0, 0, 1.0), (5, 0, 0.0625), (1, 9, 22 / 1024), (4, 4, 1.0)])
def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs(only_a: int, only_b: int, p: float) -> None:
    a = [1] * only_a + [0] * only_b + [1, 0]
    b = [0] * only_a + [1] * only_b + [1, 0]
    assert mcnemar_exact(a, b) == pytest.approx(p)
    if only_a + only_b:
        assert mcnemar_exact(a, b) == pytest.approx(stats.binomtest(only_a, only_a + only_b).pvalue)


def test_wilcoxon_is_scipys() -> None:
    assert wilcoxon_signed_rank(A, B) == pytest.approx(stats.wilcoxon(A, B).pvalue)
    assert wilcoxon_signed_rank(A[:5], A[:5]) == 1.0
    assert wilcoxon_signed_rank([1, 2, 3, 4, 5, 6], [0] * 6) == pytest.approx(2 / 2**6)


def test_the_detectable_difference_is_detected_as_often_as_it_says() -> None:
    n, spread = 200, 0.3
    values = spread * RNG.standard_normal(n)
    size = minimum_detectable_difference(values, 0 * values)
    assert size == pytest.approx((1.959964 + 0.841621) * np.std(values, ddof=1) / math.sqrt(n), rel=1e-5)
    drawn = size + np.std(values, ddof=1) * RNG.standard_normal((4000, n))
    shown = np.abs(drawn.mean(1)) > 1.959964 * drawn.std(1, ddof=1) / math.sqrt(n)
    assert shown.mean() == pytest.approx(0.8, abs=0.03)
    assert minimum_detectable_difference([1.0], [0.0]) == math.inf


@pytest.mark.parametrize(
    "function", [paired_bootstrap, mcnemar_exact, wilcoxon_signed_rank, minimum_detectable_difference]
)
def test_bad_arguments_are_refused(function: object) -> None:
    for a, b in (([], []), ([1.0], [1.0, 0.0]), ([math.nan], [0.0])):
        with pytest.raises(ValueError, match="values must"):
            function(a, b)  # type: ignore[operator]
    with pytest.raises(ValueError, match="0 or 1"):
        mcnemar_exact([0.5], [1.0])
