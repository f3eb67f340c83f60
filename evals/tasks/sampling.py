"""Question sets: search, selection and test, disjoint by content, drawn once from a seed."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from evals.errors import DataError
from evals.tasks.lm_eval_setup import lm_eval_random_state
from evals.tasks.loading import LoadedTask
from evals.tasks.question_sets import Question, QuestionSets, refuse_search_on_test

__all__ = [
    "Leaf",
    "Question",
    "QuestionSets",
    "Split",
    "content_hash",
    "draw_questions",
    "refuse_search_on_test",
]


@dataclass(frozen=True)
class Split:
    """The rows of one split of a leaf task.

    Attributes:
        name: The split.
        docs: Its rows.
        contents: Hash of each row's content.
        ids: The same, made unique: a row that repeats an earlier one has the number of the repetition in its hash.
    """

    name: str
    docs: Sequence[Any]
    contents: tuple[str, ...]
    ids: tuple[str, ...]

    def questions(self, task: str) -> list[Question]:
        """Return every row as a question."""
        return [Question(task, self.name, index, id_) for index, id_ in enumerate(self.ids)]


class Leaf:
    """The splits of a leaf task, read when first asked for.

    Args:
        loaded: The task.
    """

    def __init__(self, loaded: LoadedTask) -> None:
        self.loaded = loaded
        task = loaded.task
        self.test_name = "test" if task.has_test_docs() else "validation"

    @classmethod
    def of(cls, loaded: LoadedTask) -> "Leaf":
        """Return the splits of `loaded`, read and hashed once however often they are asked for."""
        leaf: Leaf = loaded.memo.setdefault("leaf", cls(loaded))
        return leaf

    @cached_property
    def test(self) -> Split:
        """The rows that lm-eval scores."""
        return self._split(self.test_name, self.loaded.task.eval_docs)

    @cached_property
    def others(self) -> tuple[Split, ...]:
        """Validation and training rows, in this order, that lm-eval does not score."""
        task = self.loaded.task
        found = []
        if self.test_name != "validation" and task.has_validation_docs():
            found.append(self._split("validation", task.validation_docs()))
        if task.has_training_docs():
            found.append(self._split("training", task.training_docs()))
        return tuple(found)

    def split(self, name: str) -> Split:
        """Return the split called `name`."""
        for split in (self.test, *(self.others if name != self.test_name else ())):
            if split.name == name:
                return split
        raise DataError(f"{self.loaded.name}: must have a split {name!r}, got none; the data changed")

    def _split(self, name: str, docs: Iterable[Any]) -> Split:
        rows = list(docs)
        contents = tuple(content_hash(self.loaded.task, doc) for doc in rows)
        return Split(name, rows, contents, _unique(contents))


def content_hash(task: Any, doc: Any) -> str:
    """Return a hash of what is asked and its choices, without regard to case, spaces and order of choices."""
    asked = task.doc_to_text(doc)
    choices = task.doc_to_choice(doc) if task.get_config("doc_to_choice") is not None else []
    if not isinstance(asked, str) or not asked.strip():
        asked = "" if choices else str(task.doc_to_target(doc))
    plain = [" ".join(str(text).lower().split()) for text in (asked, *choices)]
    return _digest(json.dumps([plain[0], sorted(plain[1:])], ensure_ascii=False))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _unique(contents: Sequence[str]) -> tuple[str, ...]:
    seen: Counter[str] = Counter()
    ids = []
    for content in contents:
        seen[content] += 1
        ids.append(content if seen[content] == 1 else _digest(f"{content}#{seen[content]}"))
    return tuple(ids)


Count = int | Literal["all"]
Counts = Count | Mapping[str, Count]
"""A number for every label, or one number per label."""


def draw_questions(
    tasks: Sequence[LoadedTask],
    *,
    for_search: Counts = 200,
    for_selection: Counts = 200,
    for_test: Counts = "all",
    seed: int = 0,
    search_on_test: bool = False,
) -> QuestionSets:
    """Draw the three sets; counts are per label, shared among the leaves of a group in proportion to their size.

    Search and selection questions come from the rows that lm-eval does not score: validation first, training where
    that is not enough. A task without such rows gives a part of its test rows. Rows that also stand in a test split,
    few-shot rows of a fixed place, and as many training rows as the prompts need are left out. ``all`` for search or
    selection means what is left, halved when both say so.

    Raises:
        DataError: A task has too few rows.
    """
    groups: dict[str, list[Leaf]] = {}
    for loaded in tasks:
        groups.setdefault(loaded.label, []).append(Leaf.of(loaded))
    with lm_eval_random_state():
        counts = {
            label: (_count(for_search, label), _count(for_selection, label), _count(for_test, label))
            for label in groups
        }
        return _draw_all(groups, counts, seed, search_on_test=search_on_test)


def _count(counts: Counts, label: str) -> Count:
    if not isinstance(counts, Mapping):
        return counts
    if label not in counts:
        raise DataError(f"{label}: must have a number of questions, got one for {', '.join(counts)} alone; add it")
    return counts[label]


def _draw_all(
    groups: dict[str, list[Leaf]],
    counts: dict[str, tuple[Count, Count, Count]],
    seed: int,
    *,
    search_on_test: bool,
) -> QuestionSets:
    used: set[str] = set()
    searched: list[Question] = []
    selected: list[Question] = []
    tested: list[Question] = []
    generators = {label: np.random.default_rng([seed, int(_digest(label), 16)]) for label in groups}
    for label, leaves in groups.items():
        wanted = (*counts[label][:2], 0) if search_on_test else counts[label]
        separate = not search_on_test and all(leaf.others for leaf in leaves)
        first, second = _draw(label, leaves, wanted, used, generators[label], separate=separate)
        searched += first
        selected += second
        used |= {question.id for question in (*first, *second)}
    if search_on_test:
        used.clear()
    for label, leaves in groups.items():
        tested += _draw_test(label, leaves, counts[label][2], used, generators[label])
    return QuestionSets(tuple(sorted(searched)), tuple(sorted(selected)), tuple(sorted(tested)))


def _draw(
    label: str,
    leaves: Sequence[Leaf],
    counts: tuple[Count, Count, Count],
    used: set[str],
    rng: np.random.Generator,
    *,
    separate: bool,
) -> tuple[list[Question], list[Question]]:
    pools = [_pool(leaf, used, rng, separate=separate) for leaf in leaves]
    spare = 0 if separate else 1 if counts[2] == "all" else counts[2]
    free = max(sum(map(len, pools)) - spare, 0)
    asked = _numbers(counts[:2], free)
    if sum(asked) > free:
        raise DataError(
            f"{label}: must have {asked[0]} search and {asked[1]} selection questions among its "
            f"{'training and validation' if separate else 'test'} rows, got {free} that are neither few-shot rows nor "
            "repeated in nor kept for the test; ask for fewer, or say --search-on-test to search on test questions too"
        )
    taken = [_shuffled(part, rng) for part in _share(pools, sum(asked), rng)]
    searched = _share(taken, asked[0], rng)
    selected = [part[len(first) :] for part, first in zip(taken, searched, strict=True)]
    return [q for part in searched for q in part], [q for part in selected for q in part]


def _numbers(counts: Sequence[Count], free: int) -> list[int]:
    fixed = sum(count for count in counts if count != "all")
    open_ended = sum(count == "all" for count in counts)
    rest = max(free - fixed, 0) // max(open_ended, 1)
    return [rest if count == "all" else count for count in counts]


def _draw_test(
    label: str, leaves: Sequence[Leaf], count: Count, used: set[str], rng: np.random.Generator
) -> list[Question]:
    left = []
    for leaf in leaves:
        questions = leaf.test.questions(leaf.loaded.name)
        left.append([q for q, content in zip(questions, leaf.test.contents, strict=True) if content not in used])
    total = sum(map(len, left))
    wanted = total if count == "all" else count
    if wanted > total:
        raise DataError(f"{label}: must have {wanted} test questions, got {total} rows; ask for fewer")
    if wanted < total:
        left = _share([_shuffled(part, rng) for part in left], wanted, rng)
    return [q for part in left for q in part]


def _pool(leaf: Leaf, used: set[str], rng: np.random.Generator, *, separate: bool) -> list[Question]:
    """Return the questions of a leaf that search and selection may use, in random order, validation first."""
    task = leaf.loaded.task
    shots = int(task.get_config("num_fewshot") or 0)
    taken = used | _fixed_shots(task, shots) | (set(leaf.test.contents) if separate else set())
    pool: list[Question] = []
    for split in leaf.others if separate else (leaf.test,):
        fresh = []
        for question in _shuffled(split.questions(leaf.loaded.name), rng):
            content = split.contents[question.index]
            if content not in taken and question.id == content:
                taken.add(content)
                fresh.append(question)
        if shots and split.name == "training":
            fresh = fresh[: max(len(split.ids) - shots - 1, 0)]
        pool += fresh
    return pool


def _fixed_shots(task: Any, shots: int) -> set[str]:
    """Return the contents of few-shot rows that are the same for every question (``sampler: first_n``)."""
    sampler = getattr(task, "sampler", None)
    if not shots or sampler is None or type(sampler).__name__ != "FirstNSampler":
        return set()
    return {content_hash(task, doc) for doc in list(sampler.df)[:shots]}


def _shuffled(questions: Sequence[Question], rng: np.random.Generator) -> list[Question]:
    return [questions[i] for i in rng.permutation(len(questions))]


def _share(pools: Sequence[Sequence[Question]], count: int, rng: np.random.Generator) -> list[list[Question]]:
    """Take `count` in all from the heads of `pools`, in proportion to their sizes (largest remainder)."""
    sizes = np.array([len(pool) for pool in pools], dtype=np.float64)
    exact = sizes * (count / sizes.sum()) if sizes.sum() else sizes
    counts = np.floor(exact).astype(int)
    order = np.lexsort((rng.permutation(len(pools)), counts - exact))
    for i in order:
        if counts.sum() >= count:
            break
        counts[i] += counts[i] < sizes[i]
    return [list(pool[:n]) for pool, n in zip(pools, counts, strict=True)]
