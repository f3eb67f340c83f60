"""Test questions are searched on only when the study or the command line says so."""

from pathlib import Path

import pytest

from evals.errors import DataError
from evals.tasks.sampling import Question, QuestionSets
from experiments.running.overrides import Overrides
from search.scoring.resources import Resources
from search.study.study import parse_study
from tests.search.studies import tiny_study

TESTED = Question("mini_arc", "test", 3, "00ff00ff00ff00ff")
SETS = QuestionSets((TESTED,), (), (TESTED,))


class Pinned:
    """A store in which question sets are pinned."""

    def pinned(self, key: str) -> str | None:
        return SETS.to_json() if key == "questions" else None


def bench(text: str, folder: Path) -> Resources:
    made = Resources(parse_study(text, place="study.yaml"), (), "cpu", folder)
    made.use(Pinned())  # type: ignore[arg-type]
    return made


def test_pinned_sets_with_a_test_question_are_refused_and_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"study\.yaml: evaluate\.questions: .* mini_arc test\[3\] 00ff00ff00ff00ff"):
        _ = bench(tiny_study(), tmp_path).sets


def test_the_flag_is_the_studys_key_and_lets_them_through(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(tiny_study())
    plain = Overrides().apply(tmp_path / "study.yaml")
    told = Overrides(search_on_test=True).apply(tmp_path / "study.yaml")
    assert (plain.file.evaluate.search_on_test, told.file.evaluate.search_on_test) == (False, True)
    made = Resources(told, (), "cpu", tmp_path)
    made.use(Pinned())  # type: ignore[arg-type]
    assert made.sets == SETS
    assert plain.digest() != told.digest(), "it is another study"
