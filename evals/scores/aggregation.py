"""Scores from answers: lm-eval's aggregation per leaf, its groups' rules per label, the corpus ratio for bits."""

import contextlib
import io
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from evals.scores.results import Item, Score
from evals.tasks.loading import LoadedTask
from evals.tasks.metrics import GOLD_BITS, filter_names, metric_key
from evals.tasks.sampling import Question

BOOTSTRAP_ITERS = 100_000
"""How often lm-eval resamples for the standard error of a metric that has no closed form."""


class Aggregator:
    """Makes scores of the answers of some tasks.

    Args:
        tasks: The tasks.
        questions: All questions in the order in which lm-eval would add their values up.
        bootstrap_iters: Resamples for the standard error of a metric without a closed form; 0 leaves it out, which a
            search needs, since lm-eval's 100,000 take longer than a model takes to answer.
    """

    def __init__(self, tasks: Sequence[LoadedTask], questions: Sequence[Question], *, bootstrap_iters: int = 0) -> None:
        self._tasks = tuple(tasks)
        self._bootstrap_iters = bootstrap_iters
        self._order = {(question.task, question.id): place for place, question in enumerate(questions)}

    def __call__(self, items: Sequence[Item]) -> dict[str, Score]:
        """Return ``label/metric`` to score."""
        found: defaultdict[tuple[str, str], list[Item]] = defaultdict(list)
        for item in sorted(items, key=lambda item: self._order[item.leaf, item.question]):
            found[item.leaf, item.metric].append(item)
        leaves: defaultdict[str, dict[str, dict[str, Score]]] = defaultdict(dict)
        loaded = {task.name: task for task in self._tasks}
        for (leaf, metric), listed in found.items():
            score = leaf_score(loaded[leaf], metric, listed, bootstrap_iters=self._bootstrap_iters)
            leaves[leaf].setdefault(loaded[leaf].label, {})[metric] = score
        scores = {}
        for label in dict.fromkeys(task.label for task in self._tasks):
            below = [task for task in self._tasks if task.label == label and label in leaves[task.name]]
            parts = {task.name: leaves[task.name][label] for task in below}
            bits = [item for task in below for item in found[task.name, GOLD_BITS]]
            for metric, score in _label_scores(below, parts, bits).items():
                scores[f"{label}/{metric}"] = score
        return scores


def leaf_score(loaded: LoadedTask, metric: str, items: Sequence[Item], *, bootstrap_iters: int = 0) -> Score:
    """Return the score of one leaf task in one of its metrics, as lm-eval aggregates it.

    Args:
        loaded: The leaf.
        metric: The metric, with its filter where there are several.
        items: Its answers.
        bootstrap_iters: Resamples for a standard error that has no closed form; 0 for none.
    """
    from lm_eval.api.metrics import mean

    if metric == GOLD_BITS:
        return _corpus_ratio(items)
    raws = [item.raw for item in items]
    name = metric.split("/")[0]
    function = loaded.task.aggregation().get(name, mean)
    stderr = _standard_error(function, name, raws, bootstrap_iters)
    return Score(float(function(raws)), stderr, len(raws), loaded.higher_is_better.get(metric, True))


def _standard_error(function: Any, name: str, raws: Sequence[Any], bootstrap_iters: int) -> float | None:
    """Return the standard error that lm-eval gives for ``function(raws)``; None where it gives none."""
    from lm_eval.api.metrics import acc_all, mean, stderr_for_metric

    closed = function in (mean, acc_all)
    if len(raws) < 2 or not (closed or bootstrap_iters):
        return None
    iters = min(bootstrap_iters, 100) if name in {"bleu", "chrf", "chrf++", "ter"} else bootstrap_iters
    estimate = stderr_for_metric(metric=function, bootstrap_iters=max(iters, 1))
    if estimate is None:
        return None
    with contextlib.redirect_stdout(io.StringIO()):  # lm-eval announces a bootstrap on standard output
        return float(estimate(raws))


def _corpus_ratio(items: Sequence[Item]) -> Score:
    """Return sum(bits) / sum(bytes), with the linearised standard error of a ratio.

    se^2 = n / (n - 1) * sum_q (bits_q - r bytes_q)^2 / (sum_q bytes_q)^2
    Source: W. G. Cochran, "Sampling Techniques", 3rd ed. 1977, section 6.4.
    """
    sizes = np.array([item.weight for item in items])
    bits = np.array([item.raw for item in items]) * sizes
    ratio, n = float(bits.sum() / sizes.sum()), len(items)
    spread = math.sqrt(n / (n - 1) * float(((bits - ratio * sizes) ** 2).sum())) if n > 1 else None
    return Score(ratio, None if spread is None else spread / float(sizes.sum()), n, higher_is_better=False)


def _label_scores(
    tasks: Sequence[LoadedTask], parts: dict[str, dict[str, Score]], bits: Sequence[Item]
) -> dict[str, Score]:
    if not tasks:
        return {}
    group = tasks[0].group
    if group is None and len(tasks) == 1:
        return parts[tasks[0].name]
    scores = {} if group is None else _group_scores(group, tasks, parts)
    config = (group.aggregate_metric_list or [None])[0] if group is not None else None
    weighted = bool(config is not None and config.weight_by_size)
    for metric in dict.fromkeys(metric for part in parts.values() for metric in part):
        if metric == GOLD_BITS:
            scores[metric] = _corpus_ratio(bits)
        elif metric not in scores:
            scores[metric] = _mean_of([part[metric] for part in parts.values() if metric in part], weighted=weighted)
    return scores


def _group_scores(group: Any, tasks: Sequence[LoadedTask], parts: dict[str, dict[str, Score]]) -> dict[str, Score]:
    """Let lm-eval's own group put its leaves together."""
    measured: dict[str, dict[str, Any]] = {}
    keys: dict[str, str] = {}
    for loaded in tasks:
        entry: dict[str, Any] = {"sample_len": max((score.n for score in parts[loaded.name].values()), default=0)}
        for metric in loaded.task.higher_is_better():
            for name in filter_names(loaded.task):
                key = metric_key(loaded.task, metric, name)
                if key in parts[loaded.name]:
                    score = parts[loaded.name][key]
                    keys[f"{metric},{name}"] = key
                    entry[f"{metric},{name}"] = score.value
                    entry[f"{metric}_stderr,{name}"] = "N/A" if score.stderr is None else score.stderr
        measured[loaded.name] = entry
    if not keys:
        return {}
    aggregated = group.aggregate(measured)
    scores = {}
    for name, key in keys.items():
        if name in aggregated:
            metric, _, filtered = name.partition(",")
            stderr = aggregated.get(f"{metric}_stderr,{filtered}")
            having = [part[key] for part in parts.values() if key in part]
            error = None if stderr in (None, "N/A") or not math.isfinite(stderr) else float(stderr)
            scores[key] = Score(float(aggregated[name]), error, sum(s.n for s in having), having[0].higher_is_better)
    return scores


def _mean_of(scores: Sequence[Score], *, weighted: bool) -> Score:
    """Return the mean of leaf scores, by size or each leaf alike, with the error of a sum of independent parts."""
    weights = np.array([score.n if weighted else 1 for score in scores], dtype=np.float64)
    weights /= weights.sum()
    errors = [score.stderr for score in scores]
    value = float(np.dot(weights, [score.value for score in scores]))
    closed = [error for error in errors if error is not None]
    stderr = math.sqrt(float(np.dot(weights**2, np.square(closed)))) if len(closed) == len(errors) else None
    return Score(value, stderr, sum(score.n for score in scores), scores[0].higher_is_better)
