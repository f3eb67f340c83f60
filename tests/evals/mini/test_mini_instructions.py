"""Instructions: known to lm-eval, buildable by its checkers, followed by an answer that follows them."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import nltk
import pytest

from evals.mini.write_questions import KWARGS
from tests.evals.mini.rows import MINI, Row, read

PARTS = {part: read(MINI / "mini_ifeval" / f"{part}.jsonl") for part in ("train", "validation", "test")}
ROWS = [row for rows in PARTS.values() for row in rows]
GOOD_ANSWERS = {
    "Name three animals that live on a farm.": "A cow and a goat and a hen live there.",
    "please tell me how to boil an egg.": "put the egg in hot water and wait for eight minutes before you take it out.",
    "GREET A NEW NEIGHBOR": "WELCOME TO OUR STREET, IT IS GOOD TO HAVE YOU HERE WITH US.",
    "Say what snow is": "Snow is frozen water that falls from clouds.",
    "Write a sentence about a picnic": "We carried the basket down to the river.",
    "Explain what a dog is.": "A dog is a loyal friend of people that barks.",
    "Write a cheerful note about apples": "An apple a day! One apple for you, one apple for me.",
    "Describe a lemon": "It seems very yellow, sweet never.",
    "Invite a friend": "Come to dinner on Friday. See you soon!",
    "Thank a bus driver": '"Thank you for the safe ride."',
    "Tell a tiny story": "<<The fox>>\nA fox slept.",
    "List 3 things": "* towel\n* hat\n* book",
    "Name 5 vegetables": "- leek\n- kale\n- pea\n- beet\n- corn",
    "Give the name and the age": '{"name": "Ann", "age": 7}',
    "Ask the landlord": "Please fix the window.\n\nP.S. It is cold.",
    "Send holiday greetings": "Merry holidays!\n\nP.P.S Come soon.",
    "Make a template": "Dear [name], come to [place] on [date].",
    "Describe a castle": "It has *thick walls* and *a tall tower*.",
    "Compare tea and coffee": "Tea is mild.\n***\nCoffee is strong.\n***\nBoth are hot.",
    "Write two paragraphs about clouds": "Clouds are white.\n\nLater they turn gray.",
    "Plan a day in a park": "Section 1\nWalk.\nSection 2\nEat.",
    "Can a penguin fly?": "My answer is no.",
    "Describe a storm at sea": "The WIND was LOUD.",
    "Suggest two different names": "Milo\n******\nLuna",
    "First say this": "First say this request again word for word, then answer it. Where do owls sleep? In trees.",
    "Give one fact about honey": "Honey is made by bees from nectar.",
    "Advertise a pair of shoes": "Our SOFT shoes carry you far.",
    "Introduce yourself in French": "Bonjour, je suis un petit robot et je vous aide avec plaisir tous les jours.",
}


@pytest.fixture(scope="module")
def ifeval() -> Iterator[tuple[ModuleType, ModuleType]]:
    """Return lm-eval's registry and checker, imported without a download."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nltk, "download", lambda *_, **__: False)
        from lm_eval.tasks.ifeval import instructions_registry, utils

        yield instructions_registry, utils


@pytest.fixture
def sentence_model(benchmark_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nltk find the sentence model that lies beside the benchmark data."""
    monkeypatch.setattr(nltk.data, "path", [str(benchmark_data / "nltk_data"), *nltk.data.path])


def test_every_instruction_is_known_and_its_checker_can_be_built(ifeval: tuple[ModuleType, ModuleType]) -> None:
    registry, _ = ifeval
    for row in ROWS:
        assert len(row["instruction_id_list"]) == len(row["kwargs"]) > 0
        for name, arguments in zip(row["instruction_id_list"], row["kwargs"], strict=True):
            checker = registry.INSTRUCTION_DICT[name](name)
            given = {key: argument for key, argument in arguments.items() if argument}
            checker.build_description(**given)
            assert set(given) == set(checker.get_instruction_args_keys()), row


def test_every_row_has_every_argument() -> None:
    assert {tuple(arguments) for row in ROWS for arguments in row["kwargs"]} == {tuple(KWARGS)}


def test_the_arguments_are_the_real_ones(benchmark_data: Path) -> None:
    real = read(benchmark_data / "ifeval" / "train.jsonl")
    assert {key for row in real for arguments in row["kwargs"] for key in arguments} == set(KWARGS)


@pytest.mark.parametrize("part", PARTS)
def test_every_kind_of_instruction_occurs_in_every_part(part: str, ifeval: tuple[ModuleType, ModuleType]) -> None:
    registry, _ = ifeval
    assert {name for row in PARTS[part] for name in row["instruction_id_list"]} == set(registry.INSTRUCTION_DICT)


@pytest.mark.parametrize("part", PARTS)
def test_every_argument_is_given_somewhere_in_every_part(part: str) -> None:
    """Otherwise the types that `datasets` infers would differ between the parts."""
    used = {key for row in PARTS[part] for arguments in row["kwargs"] for key, value in arguments.items() if value}
    assert used == set(KWARGS)


def test_instructions_of_a_prompt_do_not_conflict(ifeval: tuple[ModuleType, ModuleType]) -> None:
    registry, _ = ifeval
    for row in ROWS:
        for name in row["instruction_id_list"]:
            others = set(row["instruction_id_list"]) - {name}
            assert not others & registry.INSTRUCTION_CONFLICTS[name], row


def test_what_the_checker_looks_for_stands_in_the_prompt() -> None:
    for row in ROWS:
        for arguments in row["kwargs"]:
            for key, wanted in arguments.items():
                if wanted and key not in ("relation", "let_relation", "capital_relation", "language"):
                    assert all(mentions(row["prompt"], item) for item in as_list(wanted)), (row["prompt"], key)


def as_list(wanted: object) -> list[object]:
    """Return a list argument as it is, any other as a list of one."""
    return list(wanted) if isinstance(wanted, list) else [wanted]


def mentions(prompt: str, item: object) -> bool:
    """Say whether a prompt names a word or a number, which may be spelled."""
    spelled = {1: "one", 2: "two", 3: "three", 4: "fewer than 4"}
    names = [str(item).lower(), spelled.get(item, str(item)) if isinstance(item, int) else str(item).lower()]
    return any(name in prompt.lower() for name in names)


@pytest.mark.parametrize("start", GOOD_ANSWERS)
def test_a_good_answer_passes_and_a_bad_one_does_not(
    start: str, ifeval: tuple[ModuleType, ModuleType], sentence_model: None
) -> None:
    (row,) = [row for row in ROWS if row["prompt"].startswith(start)]
    _, utils = ifeval
    assert score(utils, row, GOOD_ANSWERS[start]) == 1
    assert score(utils, row, "") == 0


@pytest.mark.parametrize("start", ["Explain what a dog is.", "Name three animals", "Say what snow is"])
def test_an_answer_that_breaks_the_instruction_fails(
    start: str, ifeval: tuple[ModuleType, ModuleType], sentence_model: None
) -> None:
    (row,) = [row for row in ROWS if row["prompt"].startswith(start)]
    assert score(ifeval[1], row, "An animal, and another animal, " * 20) == 0


def score(utils: ModuleType, row: Row, answer: str) -> float:
    """Return lm-eval's strict score of an answer."""
    return float(utils.process_results(row, [answer])["prompt_level_strict_acc"])
