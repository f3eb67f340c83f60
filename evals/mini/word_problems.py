"""Turns the situations of `source/word_problems.txt` into word problems with worked solutions, always the same ones.

Numbers, words and names are drawn by hashing the situation's name and a counter; a draw whose steps are not whole and
at least 2, or which the situation's own condition refuses, is drawn again.
"""

import ast
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
VARIANTS = 5
SMALLEST = 2  # a step that gives 1 would need another grammar
PEOPLE = (
    "Amara:she", "Bruno:he", "Chiara:she", "Dmitri:he", "Elif:she", "Farid:he", "Greta:she", "Hiro:he",
    "Ines:she", "Jonas:he", "Keiko:she", "Luca:he", "Maren:she", "Nikhil:he", "Oksana:she", "Pedro:he",
    "Ruth:she", "Samir:he", "Tilda:she", "Viktor:he", "Wanda:she", "Yusuf:he", "Zoe:she", "Anton:he",
)  # fmt: skip
OPERATORS: dict[type[ast.operator | ast.cmpop], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Gt: operator.gt,
    ast.Lt: operator.lt,
}

Values = dict[str, int | str]


class RefusedDrawError(ValueError):
    """These numbers do not suit the situation."""


@dataclass(frozen=True)
class Situation:
    """One block of the table."""

    name: str
    grade: int
    draws: tuple[tuple[str, str], ...]
    need: str
    problem: str
    steps: tuple[str, ...]


@dataclass(frozen=True)
class WordProblem:
    """A problem in words, its worked solution in GSM8K's notation, and where it came from."""

    situation: str
    grade: int
    question: str
    answer: str


def read_situations(path: Path) -> tuple[Situation, ...]:
    """Read the table of situations."""
    text = "\n".join(line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    situations = []
    for block in text.strip().split("\n\n"):
        head, draws, *rest = block.strip().splitlines()
        name, grade = head[1:].split("] ")
        need = next((line[5:] for line in rest if line.startswith("need ")), "")
        (problem,) = (line for line in rest if not line.startswith(("need ", "> ")))
        steps = tuple(line[2:] for line in rest if line.startswith("> "))
        situations.append(Situation(name, int(grade), tuple(split_draws(draws)), need, problem, steps))
    return tuple(situations)


def split_draws(line: str) -> Iterator[tuple[str, str]]:
    """Yield (name, what to draw) of a line such as ``a=2..9 thing=fish|green frogs``."""
    for part in re.split(r" (?=\w+=)", line.strip()):
        name, _, what = part.partition("=")
        yield name, what


def compute(expression: str, values: Values) -> int:
    """Return the value of an expression of names, whole numbers, ``+ - * / < >``; division must come out whole."""

    def visit(node: ast.expr) -> int:
        match node:
            case ast.Constant(value=int(value)):
                return value
            case ast.Name(id=name):
                return int(values[name])
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                quotient, rest = divmod(visit(left), visit(right))
                if rest:
                    raise RefusedDrawError(expression)
                return quotient
            case ast.BinOp(left=left, op=op, right=right):
                return OPERATORS[type(op)](visit(left), visit(right))
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return OPERATORS[type(op)](visit(left), visit(right))
        raise ValueError(f"word_problems.txt: {expression!r}: must be whole-number arithmetic")

    return visit(ast.parse(expression, mode="eval").body)


def draw(what: str, number: int, values: Values) -> int | str:
    """Return what ``2..9``, ``10..60/5``, ``red|blue`` or an expression stands for, picked by `number`."""
    if "|" in what or what.isalpha():
        words = what.split("|")
        return words[number % len(words)]
    if ".." not in what:
        return compute(what, values)
    low, high, *step = (int(part) for part in re.split(r"\.\.|/", what))
    choices = range(low, high + 1, *step)
    return choices[number % len(choices)]


def people(number: int) -> Values:
    """Return the names and the words that speak of the first of them."""
    first = number % len(PEOPLE)
    other = (first + 1 + number // len(PEOPLE) % (len(PEOPLE) - 1)) % len(PEOPLE)
    name, he = PEOPLE[first].split(":")
    his, him = ("his", "him") if he == "he" else ("her", "her")
    capital = {"He": he.title(), "His": his.title()}
    return {"n": name, "m": PEOPLE[other].split(":")[0], "he": he, "his": his, "him": him, **capital}


def work_out(step: str, values: Values) -> tuple[str, int]:
    """Return a line of the solution with its ``[...]`` worked out, and the value; a named value joins `values`."""
    result = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal result
        dollar, name, expression = match["dollar"], match["name"], match["expression"]
        result = compute(expression, values)
        if result < SMALLEST:
            raise RefusedDrawError(step)
        if name:
            values[name] = result
        plain = re.sub(r"[a-z]+", lambda found: str(values[found[0]]), expression)
        left = re.sub(r"([-+*/])", r" \1 ", plain)
        if dollar and not re.search("[*/]", plain):
            left = re.sub(r"\d+", r"$\g<0>", left)
        return f"{left} = {dollar}<<{plain}={result}>>{result}"

    line = re.sub(r"(?P<dollar>\$?)\[(?:(?P<name>\w)=)?(?P<expression>[^]]+)\]", replace, step)
    return line.format(**values), result


def fill(situation: Situation, draw_number: Callable[[str], int]) -> WordProblem:
    """Return the problem of one draw; RefusedDrawError when the numbers do not suit."""
    values = people(draw_number("people"))
    for name, what in situation.draws:
        values[name] = draw(what, draw_number(name), values)
    if situation.need and not compute(situation.need, values):
        raise RefusedDrawError(situation.need)
    worked = [work_out(step, values) for step in situation.steps]
    answer = "\n".join([*(line for line, _ in worked), f"#### {worked[-1][1]}"])
    return WordProblem(situation.name, situation.grade, situation.problem.format(**values), answer)


def problems_of(situation: Situation, hashed: Callable[[str], str], count: int) -> list[WordProblem]:
    """Return `count` problems of a situation, all with different texts and, as far as they go, different words."""
    found: dict[str, WordProblem] = {}
    attempt = 0
    while len(found) < count:
        attempt += 1

        def number(name: str, attempt: int = attempt) -> int:
            words = dict(situation.draws).get(name, "")
            start = len(found) if "|" in words else attempt
            return len(found) if "|" in words else int(hashed(f"{situation.name} {name} {start}")[:8], 16)

        try:
            problem = fill(situation, number)
        except RefusedDrawError:
            continue
        if problem.answer not in {other.answer for other in found.values()}:
            found.setdefault(problem.question, problem)
    return list(found.values())


def write_problems(hashed: Callable[[str], str]) -> dict[str, list[WordProblem]]:
    """Return the parts of the suite: two problems of each situation are for the test, a few are few-shot examples."""
    situations = read_situations(HERE / "source" / "word_problems.txt")
    parts: dict[str, list[WordProblem]] = {"train": [], "validation": [], "test": []}
    shown = few_shot_situations(situations)
    for situation in situations:
        extra = situation.name in shown
        problems = problems_of(situation, hashed, VARIANTS + extra)
        parts["test"] += problems[:2]
        parts["validation"] += problems[2:VARIANTS]
        parts["train"] += problems[VARIANTS:]
    return {part: sorted(rows, key=lambda row: hashed(row.question)) for part, rows in parts.items()}


def few_shot_situations(situations: Sequence[Situation]) -> set[str]:
    """Return the names of the situations that also give a few-shot example: every fifth."""
    return {situation.name for situation in situations[::5]}
