"""From the best few to the verdict: selection questions name the winner, test questions judge it."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from evals.scores.statistics import (
    mcnemar_exact,
    minimum_detectable_difference,
    paired_bootstrap,
    wilcoxon_signed_rank,
)
from search.objective.objective import BITS_PER_BYTE, GOLD_PROBABILITY, Objective, Term, paired
from search.results.outcome import Scored
from search.results.verdict import Comparison, TaskComparison


def order_finalists(values: Mapping[str, float], count: int) -> list[str]:
    """Return the names with the highest search values, best first; equal values in the order given."""
    return sorted(values, key=lambda name: -values[name])[:count]


def name_winner(selection: Mapping[str, float], searched: Mapping[str, float]) -> str:
    """Return the finalist with the best selection value; the search value decides between equals."""
    return max(selection, key=lambda name: (selection[name], searched[name]))


def compare(objective: Objective, winner: Scored, opponents: Mapping[str, Scored], *, seed: int) -> list[Comparison]:
    """Compare the winner with each opponent on the questions that both answered."""
    return [
        Comparison(
            opponent=name,
            objective=objective.difference(winner.results, other.results, seed=seed),
            tasks=tuple(_compare_task(term, winner, other, seed) for term in _terms_shown(objective, winner)),
        )
        for name, other in opponents.items()
    ]


def best_parent(values: Mapping[str, float], parents: Sequence[str]) -> str:
    """Return the parent that scores best on the test questions: the hardest one to beat, so the fairest."""
    return max(parents, key=lambda name: values[name])


def _terms_shown(objective: Objective, scored: Scored) -> Iterator[Term]:
    """Go through the objective's terms, each followed by its task's right-or-wrong metrics if it has a likelihood.

    A likelihood is the better guide for a search, right or wrong is what people ask about.
    """
    answers = scored.results.answers
    for term in objective.terms:
        yield term
        if term.metric in (GOLD_PROBABILITY, BITS_PER_BYTE):
            for metric, rows in answers[answers["task"] == term.label].groupby("metric", sort=True):
                if rows["value"].isin((0.0, 1.0)).all():
                    yield Term(term.label, str(metric), 0.0, True)


def _compare_task(term: Term, winner: Scored, other: Scored, seed: int) -> TaskComparison:
    a, b, weight = paired(winner.results.answers, other.results.answers, term.label, term.metric)
    right_or_wrong = bool(np.isin(np.concatenate([a, b]), (0.0, 1.0)).all())
    return TaskComparison(
        task=term.key,
        winner=winner.results.scores[term.key].value,
        opponent=other.results.scores[term.key].value,
        difference=paired_bootstrap(a, b, weights=weight, seed=seed),
        test="mcnemar" if right_or_wrong else "wilcoxon",
        p_value=mcnemar_exact(a, b) if right_or_wrong else wilcoxon_signed_rank(a, b),
        questions=len(a),
        detectable=minimum_detectable_difference(a, b),
        higher_is_better=term.higher_is_better,
    )
