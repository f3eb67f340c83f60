"""Questions by content, the three sets of a study, and the guard that keeps test questions out of a search."""

import hashlib
import json
from dataclasses import asdict, dataclass

from evals.errors import DataError


@dataclass(frozen=True, order=True)
class Question:
    """One question of one leaf task.

    Attributes:
        task: Name of the leaf.
        split: ``training``, ``validation`` or ``test``, as lm-eval calls the task's own splits.
        index: Place in that split.
        id: Hash of its content, 16 hex digits: the same question has the same id in every split.
    """

    task: str
    split: str
    index: int
    id: str


@dataclass(frozen=True)
class QuestionSets:
    """Three disjoint sets: for the sampler, for naming the winner, and for the verdict."""

    search: tuple[Question, ...]
    selection: tuple[Question, ...]
    test: tuple[Question, ...]

    def to_json(self) -> str:
        """Return the sets as JSON text, read back by `from_json`."""
        named = {"search": self.search, "selection": self.selection, "test": self.test}
        return json.dumps({name: [list(asdict(q).values()) for q in questions] for name, questions in named.items()})

    @classmethod
    def from_json(cls, text: str) -> "QuestionSets":
        """Return the sets that `to_json` wrote."""
        read = json.loads(text)
        for_search, for_selection, for_test = (
            tuple(Question(*values) for values in read[name]) for name in ("search", "selection", "test")
        )
        return cls(for_search, for_selection, for_test)

    def searched_test_questions(self) -> tuple[Question, ...]:
        """Return the search and selection questions that are test questions too, by content."""
        tested = {question.id for question in self.test}
        return tuple(question for question in (*self.search, *self.selection) if question.id in tested)

    def digest(self) -> str:
        """Return a sha256 over all three sets."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def refuse_search_on_test(sets: QuestionSets, *, place: str) -> None:
    """Refuse sets in which a question is searched on and tested too.

    Args:
        sets: The sets.
        place: Where they come from, for the message.

    Raises:
        DataError: There are such questions; the first of them are named.
    """
    both = sets.searched_test_questions()
    if not both:
        return
    shown = ", ".join(f"{question.task} {question.split}[{question.index}] {question.id}" for question in both[:5])
    rest = f" and {len(both) - 5} more" if len(both) > 5 else ""
    raise DataError(
        f"{place}: must not search on test questions, got {len(both)}: {shown}{rest}; "
        "draw them anew, or say --search-on-test (evaluate.search_on_test: true) to do it knowingly"
    )
