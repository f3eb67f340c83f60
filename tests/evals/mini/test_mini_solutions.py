"""Worked solutions and sums are computed again, by other code than wrote them."""

import ast
import re
from fractions import Fraction

import pytest

from evals.mini.word_problems import HERE, read_situations
from tests.evals.mini.rows import MINI, choices_of, read

MARK = re.compile(r"<<([^=<>]+)=([^<>]+)>>(\S+)")
PARTS = ("train", "validation", "test")


def value(expression: str) -> Fraction:
    """Return the exact value of ``+ - * /`` on numbers; anything else is a ValueError."""

    def visit(node: ast.expr) -> Fraction:
        match node:
            case ast.Constant(value=int(number)):
                return Fraction(number)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return visit(left) + visit(right)
            case ast.BinOp(left=left, op=ast.Sub(), right=right):
                return visit(left) - visit(right)
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                return visit(left) * visit(right)
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                return visit(left) / visit(right)
        raise ValueError(expression)

    return visit(ast.parse(expression, mode="eval").body)


@pytest.mark.parametrize("text", ["a + 1", "2 ** 3", "f(1)", "True < 2"])
def test_the_parser_takes_nothing_but_sums(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        value(text)


@pytest.mark.parametrize("part", PARTS)
def test_every_marked_step_is_right_and_the_last_is_the_answer(part: str) -> None:
    for row in read(MINI / "mini_gsm8k" / f"{part}.jsonl"):
        *steps, final = row["answer"].split("\n")
        marks = [mark for step in steps for mark in MARK.findall(step)]
        assert len(marks) == len(steps) in (1, 2, 3, 4), row
        for expression, result, shown in marks:
            assert value(expression) == Fraction(result), row
            assert re.match(r"\d+", shown.lstrip("$"))[0] == result, row  # type: ignore[index]
        assert final == f"#### {marks[-1][1]}", row


@pytest.mark.parametrize("part", PARTS)
def test_what_is_written_before_a_mark_is_what_the_mark_computes(part: str) -> None:
    for row in read(MINI / "mini_gsm8k" / f"{part}.jsonl"):
        for written, marked in re.findall(r"([$\d][-+*/$ \d]*) = \$?<<([^=]+)=", row["answer"]):
            assert re.sub(r"[ $]", "", written) == marked, row


@pytest.mark.parametrize("part", PARTS)
def test_steps_use_only_numbers_that_are_known(part: str) -> None:
    common = {
        str(n) for n in (2, 3, 4, 5, 7, 10, 12, 20, 60)
    }  # a pair, legs of a cow, days of a week, a dozen, minutes of an hour
    for row in read(MINI / "mini_gsm8k" / f"{part}.jsonl"):
        known = common | set(re.findall(r"\d+", row["question"]))
        for expression, result, _ in MARK.findall(row["answer"]):
            assert set(re.findall(r"\d+", expression)) <= known, row
            known.add(result)


def test_there_are_many_situations_of_one_to_four_steps() -> None:
    situations = read_situations(HERE / "source" / "word_problems.txt")
    assert len({situation.name for situation in situations}) == len(situations) >= 40
    assert {len(situation.steps) for situation in situations} == {1, 2, 3, 4}
    assert len({situation.problem for situation in situations}) == len(situations)


def test_no_problem_has_a_hole_or_a_wrong_article() -> None:
    for part in PARTS:
        for row in read(MINI / "mini_gsm8k" / f"{part}.jsonl"):
            text = row["question"] + row["answer"]
            assert not re.search(r"[{}\[\]]|  |\b[Aa] [aeiou]", text), row


def test_sums_of_elementary_mathematics_are_right() -> None:
    checked = 0
    for path in (MINI / "mini_mmlu" / "elementary_mathematics").glob("*.jsonl"):
        for row in read(path):
            if found := re.fullmatch(r"What is ([-+*/() \d]+)\?", row["question"]):
                choices, right = choices_of(row)
                assert [value(found[1]) == Fraction(choice) for choice in choices] == [i == right for i in range(4)]
                checked += 1
    assert checked >= 9
