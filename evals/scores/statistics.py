"""Paired comparisons of two models on the same questions: interval, exact tests, power."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        estimate: The point estimate.
        low: Lower end.
        high: Upper end.
        level: Confidence, e.g. 0.95.
    """

    estimate: float
    low: float
    high: float
    level: float


def paired_bootstrap(
    a: ArrayLike,
    b: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    level: float = 0.95,
    samples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Return the percentile bootstrap interval of mean(a) - mean(b), questions resampled in pairs.

        estimate = sum_i w_i (a_i - b_i) / sum_i w_i

    With `groups`, questions are resampled within each group (stratified), so that the composition stays as it is.
    Source: B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 13 and 8.3.

    Args:
        a: Values of one model, one per question.
        b: Values of the other, same questions in the same order.
        weights: Weight of each question; unset: all alike.
        groups: Stratum of each question; unset: one stratum.
        level: Confidence in (0, 1).
        samples: Number of resamples.
        seed: Seed of the resampling.

    Raises:
        ValueError: Lengths differ, nothing given, or a number out of range.
    """
    x, y = _pairs(a, b)
    if not 0 < level < 1 or samples < 1:
        raise ValueError(f"level must be in (0, 1) and samples at least 1, got {level=} and {samples=}")
    w, strata = _design(len(x), weights, groups)
    differences = w * (x - y)
    rng = np.random.default_rng(seed)
    top, bottom = np.zeros(samples), np.zeros(samples)
    for stratum in range(int(strata.max()) + 1):
        members = np.flatnonzero(strata == stratum)
        _resample(differences[members], w[members], rng, top, bottom)
    estimate = float(differences.sum() / w.sum())
    drawn = np.divide(top, bottom, out=np.full(samples, estimate), where=bottom > 0)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), level)


def _design(n: int, weights: ArrayLike | None, groups: ArrayLike | None) -> tuple[Array, NDArray[np.int64]]:
    w = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    strata = np.unique(np.zeros(n) if groups is None else np.asarray(groups), return_inverse=True)[1]
    if len(w) != n or len(strata) != n or (w < 0).any() or w.sum() <= 0:
        raise ValueError(
            "weights and groups must be one per question, weights not negative and not all 0, "
            f"got {len(w)} and {len(strata)} for {n}"
        )
    return w, strata


def _resample(differences: Array, w: Array, rng: np.random.Generator, top: Array, bottom: Array) -> None:
    """Add one stratum's resampled sums to `top` and `bottom`, in chunks of some ten million draws."""
    size = len(differences)
    step = max(1, 10_000_000 // size)
    for start in range(0, len(top), step):
        chosen = rng.integers(0, size, (min(step, len(top) - start), size))
        top[start : start + step] += differences[chosen].sum(1)
        bottom[start : start + step] += w[chosen].sum(1)


def mcnemar_exact(a: ArrayLike, b: ArrayLike) -> float:
    """Return the two-sided p-value of McNemar's exact test for right/wrong answers.

        n01, n10 = questions that only b, only a has right;   p = min(1, 2 P[Binomial(n01 + n10, 1/2) <= min(n01, n10)])

    1 when the models never differ.
    Source: Q. McNemar, Psychometrika 12 (1947); exact form: A. Agresti, "Categorical Data Analysis", 2002, 10.1.4.

    Raises:
        ValueError: Lengths differ, nothing given, or a value is neither 0 nor 1.
    """
    x, y = _pairs(a, b)
    if not np.isin(np.concatenate([x, y]), (0.0, 1.0)).all():
        raise ValueError("mcnemar_exact: values must be 0 or 1, got others; use wilcoxon_signed_rank")
    only_a, only_b = int(((x == 1) & (y == 0)).sum()), int(((x == 0) & (y == 1)).sum())
    if only_a + only_b == 0:
        return 1.0
    return float(min(1.0, 2 * stats.binom.cdf(min(only_a, only_b), only_a + only_b, 0.5)))


def wilcoxon_signed_rank(a: ArrayLike, b: ArrayLike) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test of a - b.

    Zero differences are dropped; exact distribution up to 50 untied differences, otherwise the normal approximation
    with the correction for ties. 1 when all differences are zero.
    Source: F. Wilcoxon, Biometrics Bulletin 1 (1945); as in ``scipy.stats.wilcoxon``.

    Raises:
        ValueError: Lengths differ or nothing given.
    """
    x, y = _pairs(a, b)
    differences = x - y
    if not differences.any():
        return 1.0
    return float(stats.wilcoxon(differences).pvalue)


def minimum_detectable_difference(a: ArrayLike, b: ArrayLike, *, level: float = 0.95, power: float = 0.8) -> float:
    """Return the true difference of means that this many questions would have shown with probability `power`.

        d = (z_{(1 + level) / 2} + z_power) s / sqrt(n),   s = standard deviation of a_i - b_i

    Source: the paired z-test's power, e.g. J. Cohen, "Statistical Power Analysis", 1988, 2.3; for models on
    benchmarks: D. Card et al., "With Little Power Comes Great Responsibility", EMNLP 2020. Infinite for one question.

    Raises:
        ValueError: Lengths differ, nothing given, or a number out of range.
    """
    x, y = _pairs(a, b)
    if not (0 < level < 1 and 0 < power < 1):
        raise ValueError(f"level and power must be in (0, 1), got {level=} and {power=}")
    if len(x) < 2:
        return math.inf
    quantile: Callable[[float], float] = stats.norm.ppf
    spread = float(np.std(x - y, ddof=1))
    return float((quantile((1 + level) / 2) + quantile(power)) * spread / math.sqrt(len(x)))


def _pairs(a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or not len(x):
        raise ValueError(f"values must be two lists of the same length, at least 1, got shapes {x.shape} and {y.shape}")
    if not np.isfinite(np.concatenate([x, y])).all():
        raise ValueError("values must be finite, got nan or infinity; leave those questions out")
    return x, y
